"""BatchNormalization whose statistics are computed or fed.

In training mode mean and variance are those of the batch, and the running ones are moved towards them:
running = running · momentum + current · (1 - momentum).
https://onnx.ai/onnx/operators/onnx__BatchNormalization.html
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from .base import Body

OPERATORS = ("BatchNormalization",)


def define(body: Body, node: ir.Node) -> Sequence[str] | None:
    """None where the rank is not known."""
    source = node.inputs[0]
    if source is None or source.shape is None:
        return None
    rank = len(source.shape)
    x, scale, bias, mean, variance = body.inputs
    extra: list[str] = []
    if node.attributes.get_int("training_mode", 0):
        axes = body.constant([a for a in range(rank) if a != 1])
        batch_mean = body.op("ReduceMean", x, axes, keepdims=0)
        centred = body.op("Sub", x, _column(body, batch_mean, rank))
        batch_variance = body.op("ReduceMean", body.op("Mul", centred, centred), axes, keepdims=0)
        momentum = node.attributes.get_float("momentum", 0.9)
        extra = [_moved(body, mean, batch_mean, momentum), _moved(body, variance, batch_variance, momentum)]
        mean, variance = batch_mean, batch_variance
    epsilon = body.like(node.attributes.get_float("epsilon", 1e-5), variance)
    deviation = body.op("Sqrt", body.op("Add", variance, epsilon))
    factor = body.op("Div", scale, deviation)
    centred = body.op("Sub", x, _column(body, mean, rank))
    y = body.op("Add", body.op("Mul", centred, _column(body, factor, rank)), _column(body, bias, rank))
    return [y, *extra][: len(node.outputs)]


def _column(body: Body, value: str, rank: int) -> str:
    """A value for each channel, to be broadcast."""
    axes = list(range(1, rank - 1))
    return str(body.op("Unsqueeze", value, body.constant(axes))) if axes else value


def _moved(body: Body, running: str, current: str, momentum: float) -> str:
    old = body.op("Mul", running, body.like(momentum, running))
    new = body.op("Mul", body.op("CastLike", current, running), body.like(1 - momentum, running))
    return str(body.op("Add", old, new))
