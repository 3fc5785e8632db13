"""NonMaxSuppression: how many boxes stay depends on data."""

from __future__ import annotations

import onnx_ir as ir

from gossamer.runtime.errors import UnsupportedError

from ...cpu.box_selection import BoxSelection
from ...cpu.lazy import Fill, Lazy, Leaf
from ...dims import smaller
from ..attributes import describe, flag, require_equal
from ..registry import lowers
from ..state import Lowering
from .movement import source_of


@lowers("NonMaxSuppression")
def lower_box_selection(state: Lowering, node: ir.Node) -> None:
    """Rows (batch, class, box) of int64; thresholds and the number of boxes may be fed."""
    boxes, scores = (Leaf(state.tensor(source_of(state, node, i))) for i in range(2))
    if (boxes.dtype, scores.dtype) != ("float32", "float32"):
        raise UnsupportedError("only float32", where=describe(node), got=[boxes.dtype, scores.dtype])
    require_equal(
        node, "ranks and coordinates", (3, 3, 4), (len(boxes.shape), len(scores.shape), boxes.shape[2])
    )
    for (a, b), what in zip(((0, 0), (1, 2)), ("batches", "boxes"), strict=True):
        state.sizes.equal(boxes.shape[a], scores.shape[b], f"{describe(node)}: {what} of boxes and scores")
    limits = [_given(state, node, position) for position in (2, 3, 4)]
    most, overlap = limits[0] or Fill(0, "int64"), limits[1] or Fill(0.0, "float32")
    each = scores.shape[2]
    if isinstance(most, Fill):
        each = smaller(each, max(0, int(most.value)))
    name = node.outputs[0].name or "selected"
    total = scores.shape[0] * scores.shape[1] * each
    out = state.new_tensor(name, "int64", (total, 3))
    count, scalar = state.sizes.measure(name, total)
    alive = state.new_tensor(f"{name}.alive", "uint8", (scores.shape[2],))
    centred = flag(node, "center_point_box")
    state.steps.append(BoxSelection(boxes, scores, (most, overlap, limits[2]), centred, alive, out, scalar))
    state.define(node.outputs[0], Leaf(out.view((count, 3), (3, 1))))


def _given(state: Lowering, node: ir.Node, position: int) -> Lazy | None:
    value = node.inputs[position] if len(node.inputs) > position else None
    return None if value is None else state.lazy(value)
