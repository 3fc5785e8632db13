"""Operators that read memory as another type, or backwards."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from tvm import tirx as tir

from gossamer.runtime.errors import UnsupportedError

from ...cpu.builder import int32
from ...cpu.lazy import Lazy, Leaf
from ...cpu.tensor import ITEM_BYTES, Tensor
from ..attributes import describe, integer
from ..registry import lowers
from ..state import Lowering, dtype_name
from .movement import source_of


@lowers("BitCast", any_type=True)
def lower_bit_cast(state: Lowering, node: ir.Node) -> None:
    """The same bytes as elements of another type of as many bytes."""
    dtype = dtype_name(node.outputs[0], describe(node))
    source = source_of(state, node)
    if ITEM_BYTES[dtype] != ITEM_BYTES[source.dtype]:
        raise UnsupportedError(
            "elements change their size", where=describe(node), expected=source.dtype, got=dtype
        )
    if isinstance(source, Leaf) and source.tensor.place == "weight":
        tensor = source.tensor
    else:
        tensor = state.dense(source, node.name or "bits")
    seen = Tensor(tensor.name, dtype, tensor.shape, tensor.strides, tensor.place, tensor)
    state.define(node.outputs[0], Leaf(seen))


@lowers("ReverseSequence", any_type=True)
def lower_reverse_sequence(state: Lowering, node: ir.Node) -> None:
    """The first elements along the time axis backwards, as many as the batch's length says."""
    source, lengths = source_of(state, node), source_of(state, node, 1)
    batch, time = integer(node, "batch_axis", 1), integer(node, "time_axis", 0)

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        length = tir.Cast("int32", sources[1].at(scope, [index[batch]]))
        at = index[time]
        place = list(index)
        place[time] = tir.Select(at < length, tir.max(length - 1 - at, int32(0)), at)
        return sources[0].at(scope, place)

    moved = state.moved([source, lengths], source.shape, pick, "reversed", batch, time, conditional=True)
    state.define(node.outputs[0], moved)
