"""RotaryEmbedding: pairs of a head's elements are turned by angles that grow with the position."""

from __future__ import annotations

import onnx_ir as ir

from ..expansion import Expansion, Refused
from ..registry import expands
from ..rotating import rotated


@expands("RotaryEmbedding")
def expand_rotary(w: Expansion) -> ir.Value:
    """Of (B, S, N · D) or (B, N, S, D), at positions (1,), an offset, or (B, S)."""
    if w.flag("is_packed_batching") or w.node.attributes.get_float("scale", 1.0) != 1.0:
        raise Refused("packed batches and scales have no form here")
    x, positions = w.needed(0), w.needed(1)
    flat = w.rank(x) == 3
    width = w.node.attributes.get_int("rotary_embedding_dim", 0) or 2 * w.number_of(w.needed(2), 1)
    heads = w.node.attributes.get_int("num_heads", 0)
    if flat:
        heads = heads or w.number_of(x, 2) // width
        x = w.transposed(w.reshaped(x, 0, 0, heads, -1), 0, 2, 1, 3)
        whole = w.number_of(w.needed(0), 2) // heads
    else:
        whole = w.number_of(x, 3)
    if w.rank(positions) == 1:
        positions = _counted(w, positions, w.size_of(w.needed(0), 1 if flat else 2))
    result = rotated(w, x, whole, width, positions, (w.needed(2), w.needed(3)), w.flag("interleaved"))
    return w.reshaped(w.transposed(result, 0, 2, 1, 3), 0, 0, -1) if flat else result


def _counted(w: Expansion, offset: ir.Value, steps: ir.Value) -> ir.Value:
    """(1, S): the positions from an offset on."""
    zero, one = (w.reshaped_scalar(w.integers(n)) for n in (0, 1))
    row = w.op("Range", zero, w.reshaped_scalar(steps), one)
    return w.op("Unsqueeze", w.op("Add", row, offset), w.integers(0))
