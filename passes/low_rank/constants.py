"""Initializers that come and go."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

__all__ = ["add_constant", "drop_unused"]


def add_constant(graph: ir.Graph, name: str, array: npt.NDArray[Any]) -> ir.Value:
    """An initializer called `name`, or the like where that is taken."""
    while name in graph.initializers:
        name += "_"
    tensor = ir.Tensor(np.asarray(array, order="C"), name=name)
    kind, shape = ir.TensorType(tensor.dtype), ir.Shape(array.shape)
    value = ir.Value(name=name, shape=shape, type=kind, const_value=tensor)
    graph.register_initializer(value)
    return value


def drop_unused(graph: ir.Graph, value: ir.Value | None) -> None:
    """Remove an initializer that nothing reads any more."""
    if value is not None and value.name and not value.uses() and not value.is_graph_output():
        graph.initializers.pop(value.name, None)
