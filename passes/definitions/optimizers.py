"""Momentum, Adagrad and Adam: one step of training for every tensor.

https://onnx.ai/onnx/operators/ (ai.onnx.preview.training)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from .base import Body

OPERATORS = ("Adagrad", "Adam", "Momentum")


def define(body: Body, node: ir.Node) -> Sequence[str] | None:
    """New weights and new state of every tensor; None for other types than float32."""
    types = {value.dtype for value in node.inputs[2:] if value is not None}
    if types != {ir.DataType.FLOAT}:
        return None
    step = {"Adagrad": _adagrad, "Adam": _adam, "Momentum": _momentum}[node.op_type]
    kinds = {"Adagrad": 3, "Adam": 4, "Momentum": 3}[node.op_type]
    count = (len(body.inputs) - 2) // kinds
    results = [step(body, node, body.inputs[2 + i :: count]) for i in range(count)]
    return [values[kind] for kind in range(kinds - 1) for values in results]


def _number(body: Body, node: ir.Node, name: str, default: float) -> str:
    return body.constant(node.attributes.get_float(name, default), np.float32)


def _decayed(body: Body, node: ir.Node, gradient: str, weight: str) -> str:
    """The gradient of the loss and of the norm's penalty."""
    penalty = body.op("Mul", _number(body, node, "norm_coefficient", 0.0), weight)
    return str(body.op("Add", penalty, gradient))


def _as_float(body: Body) -> str:
    """The number of updates so far."""
    return str(body.op("Cast", body.inputs[1], to=int(ir.DataType.FLOAT)))


def _adagrad(body: Body, node: ir.Node, values: Sequence[str]) -> list[str]:
    weight, gradient, squares = values
    decay = body.op("Mul", _as_float(body), _number(body, node, "decay_factor", 0.0))
    rate = body.op("Div", body.inputs[0], body.op("Add", body.constant(1, np.float32), decay))
    gradient = _decayed(body, node, gradient, weight)
    squares = body.op("Add", squares, body.op("Mul", gradient, gradient))
    root = body.op("Add", body.op("Sqrt", squares), _number(body, node, "epsilon", 0.0))
    step = body.op("Div", body.op("Mul", rate, gradient), root)
    return [body.op("Sub", weight, step), squares]


def _momentum(body: Body, node: ir.Node, values: Sequence[str]) -> list[str]:
    weight, gradient, momentum = values
    gradient = _decayed(body, node, gradient, weight)
    alpha, beta = _number(body, node, "alpha", 0.0), _number(body, node, "beta", 0.0)
    first = body.op("Equal", body.inputs[1], body.constant(0))
    beta = body.op("Where", first, body.constant(1, np.float32), beta)
    momentum = body.op("Add", body.op("Mul", alpha, momentum), body.op("Mul", beta, gradient))
    direction = momentum
    if node.attributes.get_string("mode", "standard") == "nesterov":
        direction = body.op("Add", gradient, body.op("Mul", alpha, momentum))
    return [body.op("Sub", weight, body.op("Mul", body.inputs[0], direction)), momentum]


def _adam(body: Body, node: ir.Node, values: Sequence[str]) -> list[str]:
    weight, gradient, first, second = values
    gradient = _decayed(body, node, gradient, weight)
    alpha, beta = node.attributes.get_float("alpha", 0.9), node.attributes.get_float("beta", 0.999)
    first = _mixed(body, first, gradient, alpha)
    second = _mixed(body, second, body.op("Mul", gradient, gradient), beta)
    turns = _as_float(body)
    one = body.constant(1, np.float32)
    bias = [
        body.op("Sub", one, body.op("Pow", body.constant(rate, np.float32), turns)) for rate in (alpha, beta)
    ]
    corrected = body.op("Mul", body.inputs[0], body.op("Div", body.op("Sqrt", bias[1]), bias[0]))
    later = body.op("Greater", body.inputs[1], body.constant(0))
    rate = body.op("Where", later, corrected, body.inputs[0])
    root = body.op("Add", body.op("Sqrt", second), _number(body, node, "epsilon", 0.0))
    weight = body.op("Sub", weight, body.op("Div", body.op("Mul", rate, first), root))
    shrink = 1 - node.attributes.get_float("norm_coefficient_post", 0.0)
    return [body.op("Mul", weight, body.constant(shrink, np.float32)), first, second]


def _mixed(body: Body, old: str, new: str, share: float) -> str:
    kept = body.op("Mul", old, body.constant(share, np.float32))
    return str(body.op("Add", kept, body.op("Mul", new, body.constant(1 - share, np.float32))))
