"""How a definition is found and written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

__all__ = ["OLDEST_OPSET", "Body", "defined_body"]

OLDEST_OPSET = 18
"""Definitions use operators in the form they have since then."""

Define = Callable[["Body", ir.Node], Sequence[str] | None]


class Body:
    """The nodes of a definition, in order; values are their names. `version` is the model's opset."""

    def __init__(self, node: ir.Node, version: int) -> None:
        self.version = version
        self.inputs = [f"x{i}" if value is not None else "" for i, value in enumerate(node.inputs)]
        self.nodes: list[onnx.NodeProto] = []

    def op(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """The result of an operator: a name, or a tuple of them."""
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else tuple(names)

    def like_node(self, node: ir.Node, inputs: Sequence[str]) -> list[str]:
        """The results of the same operator with other inputs; a result that is left out has no name."""
        own = ir.to_proto(node)
        copy = onnx.NodeProto(op_type=node.op_type, attribute=own.attribute, input=inputs)
        names = [f"v{len(self.nodes)}_{i}" if name else "" for i, name in enumerate(own.output)]
        copy.output.extend(names)
        self.nodes.append(copy)
        return names

    def constant(self, values: Any, dtype: Any = np.int64) -> str:
        """A tensor; whole numbers of 64 bits unless told."""
        tensor = numpy_helper.from_array(np.asarray(values, dtype))
        return str(self.op("Constant", value=tensor))

    def like(self, value: float, other: str) -> str:
        """A number in the type of another value."""
        return str(self.op("CastLike", self.constant(value, np.float32), other))

    def shape_of(self, value: str, axes: Sequence[int]) -> str:
        """The sizes of these axes, as a vector."""
        return str(self.op("Gather", self.op("Shape", value), self.constant(list(axes))))

    def finished(self, name: str, outputs: Sequence[str]) -> onnx.FunctionProto:
        """The function; a result that is an input is passed through."""
        results = [self.op("Identity", value) if value in self.inputs else value for value in outputs]
        inputs = [value or f"absent{i}" for i, value in enumerate(self.inputs)]
        opsets = [helper.make_opsetid("", self.version)]
        return helper.make_function("gossamer", name, inputs, results, self.nodes, opsets)


def defined_body(node: ir.Node, version: int) -> onnx.FunctionProto | None:
    """The function that computes a node, None where no file defines it or its variant."""
    for define in _definitions().get(node.op_type, ()) if version >= OLDEST_OPSET else ():
        body = Body(node, version)
        outputs = define(body, node)
        if outputs is not None:
            return body.finished(node.op_type, outputs)
    return None


@cache
def _definitions() -> dict[str, list[Define]]:
    """Functions called `define` of all files, by the operators in their `OPERATORS`."""
    package = import_module(__package__ or "")
    found: dict[str, list[Define]] = {}
    for info in iter_modules(package.__path__):
        module = import_module(f".{info.name}", __package__)
        for operator in getattr(module, "OPERATORS", ()):
            found.setdefault(operator, []).append(module.define)
    return found
