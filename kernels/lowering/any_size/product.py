"""Products of two activations where a size is known only at run time."""

from __future__ import annotations

import onnx_ir as ir

from ...cpu.any_product import AnyProduct
from ...cpu.epilogue import Accumulator
from ...cpu.lazy import Lazy, Leaf, weight_of
from ...cpu.register_tile import best_tile
from ...dims import Size, is_fixed
from ..attributes import describe
from ..fusion import Epilogue
from ..product_parts import finish, grow_rows
from ..state import Lowering

__all__ = ["any_product"]

_MANY_ROWS = 1 << 12  # for which the tile is chosen: few rows leave most of any tile unused
_MANY_VECTORS = 1 << 6


def any_product(state: Lowering, node: ir.Node, left: Lazy, right: Lazy, *, fuse: bool) -> Lazy:
    """(…, M, K) · (…, K, N), and with `fuse` the elementwise nodes behind it, which is then defined."""
    where = describe(node)
    depth = state.sizes.equal(left.shape[-1], right.shape[-2], f"inner sizes of {where}")
    batch = state.broadcast([left.shape[:-2], right.shape[:-2]], where)
    shape: tuple[Size, ...] = (*batch, left.shape[-2], right.shape[-1])
    epilogue = grow_rows(state, node, shape) if fuse else Epilogue(Accumulator(shape), node.outputs[0])
    source = state.tensor(left, node.name or "matmul_in")
    right = _readable(state, right, depth)
    out = state.new_tensor(epilogue.value.name or "matmul", "float32", shape)
    lanes, columns = state.isa.lanes, shape[-1]
    vectors = -(-columns // lanes) if is_fixed(columns) else _MANY_VECTORS
    tile = best_tile(state.isa, _MANY_ROWS, vectors, vector_rows=state.isa.target.broadcast == "lane")
    state.steps.append(AnyProduct(source, right, out, tile, epilogue.tree))
    if fuse:
        finish(state, epilogue, Leaf(out))
    return Leaf(out)


def _readable(state: Lowering, value: Lazy, depth: Size) -> Lazy:
    """What the kernel reads in place, whole vectors past the last column included, or packs."""
    if is_fixed(depth) and weight_of(value) == 0 and not _in_place(value):
        return value  # packed a few columns at a time
    if _in_place(value):
        return value
    stored = state.tensor(value)
    return Leaf(stored if _in_place(Leaf(stored)) else state.copy(stored))


def _in_place(value: Lazy) -> bool:
    """Whether columns lie side by side in memory that may be read past its end."""
    tensor = value.tensor if isinstance(value, Leaf) else None
    return tensor is not None and tensor.strides[-1] == 1 and tensor.root.place in ("arena", "weight")
