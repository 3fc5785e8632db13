"""The inputs of a program: tensors whose open dimensions are symbols."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from gossamer.runtime.errors import UnsupportedError

from ..cpu.lazy import Leaf
from ..cpu.tensor import Tensor, contiguous
from ..dims import BOUNDS, Size, symbol, symbols_of
from .limits import check_tensors
from .state import Lowering, dtype_name
from .surveying import noted

__all__ = ["bind_inputs"]


def bind_inputs(state: Lowering, graph: ir.Graph) -> list[Tensor]:
    """A tensor for each input; dimensions of one name are one symbol."""
    bounds: Mapping[str, tuple[int, int | None]] = graph.meta.get(BOUNDS, {})
    tensors = []
    for value in graph.inputs:
        with noted(state, "input", value.name or "", [value]):
            _require_tensor(value)
            shape = tuple(_size(state, value, axis, bounds) for axis in range(_rank(value)))
            dtype = dtype_name(value, f"input {value.name!r}")
            tensor = Tensor(value.name or "", dtype, shape, contiguous(shape), "input")
            state.values[value] = Leaf(tensor)
            check_tensors(state, [value], f"input {value.name!r}")
            tensors.append(tensor)
    return tensors


def _require_tensor(value: ir.Value) -> None:
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        kind = "optional value" if isinstance(value.type, ir.OptionalType) else "sequence"
        if isinstance(value.type, ir.SparseTensorType):
            kind = "sparse tensor"
        advice = "make it one tensor for each element, in the model"
        raise UnsupportedError(
            f"is a {kind}", where=f"input {value.name!r}", expected="a tensor", advice=advice
        )


def _rank(value: ir.Value) -> int:
    if value.shape is None:
        advice = f"give one, as --input-shape {value.name}:1,3,224,224"
        raise UnsupportedError("the shape is not known", where=f"input {value.name!r}", advice=advice)
    return len(value.shape)


def _size(state: Lowering, value: ir.Value, axis: int, bounds: Mapping[str, tuple[int, int | None]]) -> Size:
    assert value.shape is not None
    dim = value.shape[axis]
    if isinstance(dim, int):
        return dim
    name = dim.value or f"{value.name}_dim_{axis}"
    least, most = bounds.get(name, (1, None))
    size = symbol(name, least, most)
    for found in symbols_of(size):
        state.sizes.inputs[name] = found
    return size
