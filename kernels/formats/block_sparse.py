"""Blocks that are all zero are not stored; a bit mask tells which are there.

A weight of any rank >= 2 is seen as a matrix [O, K]: the first axis (outputs) times all the others. It is cut
into blocks of R x C, padded with zeros at its ends. R output channels that share an input index are one
vector register, which is why R x 1 blocks run at the arithmetic limit (docs/architecture.md).

    values  float32 [n, R, C]            the surviving blocks in row-major order of blocks
    mask    uint8   [ceil(blocks / 8)]   one bit per block, the same order, lowest bit first
    shape   int64   [rank]               the shape of the weight
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from gossamer.runtime.errors import ModelError, OptionError

from .base import DECODED_LIMIT, DOMAIN, FUNCTION_OPSET, Array, Format

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["BlockSparse", "block_grid", "block_survivors"]

# Block 0 of `table` is zero, so a masked-out block gathers zeros and an empty weight needs no special case.
_FUNCTION = """
<domain: "{domain}", opset_import: ["" : {opset}]>
BlockSparseDecode (values, mask, shape) => (W)
{{
    zero = Constant <value_ints = [0]> ()
    one = Constant <value_ints = [1]> ()
    all = Constant <value_ints = [-1]> ()
    end = Constant <value_ints = [9223372036854775807]> ()

    block = Shape <start = 1, end = 3> (values)
    rows = Shape <start = 1, end = 2> (values)
    columns = Shape <start = 2, end = 3> (values)
    outputs = Slice (shape, zero, one)
    inner = Slice (shape, one, end)
    inputs = ReduceProd <keepdims = 1> (inner)
    matrix = Concat <axis = 0> (outputs, inputs)
    ceiling = Sub (block, one)
    padded = Add (matrix, ceiling)
    grid = Div (padded, block)
    blocks = ReduceProd <keepdims = 1> (grid)

    shifts = Constant <value = uint8[1, 8] {{0, 1, 2, 3, 4, 5, 6, 7}}> ()
    low = Constant <value = uint8[1] {{1}}> ()
    bytes = Unsqueeze (mask, one)
    shifted = BitShift <direction = "RIGHT"> (bytes, shifts)
    bits = BitwiseAnd (shifted, low)
    wide = Cast <to = 7> (bits)
    flat = Reshape (wide, all)
    kept = Slice (flat, zero, blocks)
    axis = Constant <value_int = 0> ()
    count = CumSum (kept, axis)
    index = Mul (count, kept)

    empty_shape = Concat <axis = 0> (one, block)
    empty = ConstantOfShape (empty_shape)
    table = Concat <axis = 0> (empty, values)
    dense = Gather <axis = 0> (table, index)
    tiled_shape = Concat <axis = 0> (grid, block)
    tiled = Reshape (dense, tiled_shape)
    ordered = Transpose <perm = [0, 2, 1, 3]> (tiled)
    full_shape = Mul (grid, block)
    full = Reshape (ordered, full_shape)
    axes = Constant <value_ints = [0, 1]> ()
    corner = Constant <value_ints = [0, 0]> ()
    cut = Slice (full, corner, matrix, axes)
    W = Reshape (cut, shape)
}}
"""


class BlockSparse(Format):
    """R x C blocks of float32; zeros between them cost one bit a block."""

    name = "block-sparse"
    operator = "BlockSparseDecode"
    parts = ("values", "mask", "shape")
    summary = "float32 blocks of R x C that are not all zero, and one bit for each block"

    def encode(self, array: Array, *, rows: int = 4, columns: int = 1, **options: Any) -> dict[str, Array]:
        """Pack `array`: float32, rank >= 2, in blocks of `rows` x `columns`.

        A block survives unless each of its elements equals zero (a negative zero is a zero). At least one
        block is stored, so that no part is ever empty.

        >>> parts = BlockSparse().encode(np.eye(4, dtype=np.float32), rows=2, columns=2)
        >>> parts["values"].shape, parts["mask"].tolist(), parts["shape"].tolist()
        ((2, 2, 2), [9], [4, 4])
        """
        _check_encodable(array, rows, columns, options)
        blocks = _blocks(array, rows, columns)
        alive = np.asarray(blocks.any(axis=(1, 2)))
        if not alive.any():
            alive[0] = True
        return {
            "values": np.ascontiguousarray(blocks[alive]),
            "mask": np.packbits(alive, bitorder="little"),
            "shape": np.array(array.shape, np.int64),
        }

    def decode(self, parts: Mapping[str, Array]) -> Array:
        """The weight: float32, of the stored shape."""
        values, mask, shape = (parts[name] for name in self.parts)
        dims = _checked_shape(values, mask, shape)
        rows, columns = values.shape[1:]
        grid = block_grid(dims, rows, columns)
        alive = np.unpackbits(mask, bitorder="little", count=prod(grid)).view(bool)
        if (ones := int(alive.sum())) != len(values) or _mask_tail(mask, prod(grid)):
            raise ModelError(
                "the mask of a block-sparse weight does not fit its values",
                expected=f"{len(values)} bits set in the first {prod(grid)}",
                got=f"{ones} and {_mask_tail(mask, prod(grid))} beyond",
            )
        blocks = np.zeros((len(alive), rows, columns), np.float32)
        blocks[alive] = values
        full = blocks.reshape(*grid, rows, columns).swapaxes(1, 2)
        matrix = full.reshape(grid[0] * rows, grid[1] * columns)
        return np.ascontiguousarray(matrix[: dims[0], : prod(dims[1:])]).reshape(dims)

    def function(self, opset: int = FUNCTION_OPSET) -> ir.Function:
        """`BlockSparseDecode(values, mask, shape) -> W`; its operators mean the same since opset 18."""
        import onnx
        import onnx_ir

        text = _FUNCTION.format(domain=DOMAIN, opset=opset)
        return onnx_ir.serde.deserialize_function(onnx.parser.parse_function(text))


def block_grid(shape: tuple[int, ...], rows: int, columns: int) -> tuple[int, int]:
    """How many blocks of `rows` x `columns` cover the matrix [O, K] of a weight, down and across."""
    return -(-shape[0] // rows), -(-prod(shape[1:]) // columns)


def block_survivors(array: Array, rows: int, columns: int) -> int:
    """How many blocks of `array` are not all zero."""
    matrix = array.reshape(len(array), -1) != 0
    down = np.logical_or.reduceat(matrix, np.arange(0, matrix.shape[0], rows), axis=0)
    both = np.logical_or.reduceat(down, np.arange(0, matrix.shape[1], columns), axis=1)
    return int(np.count_nonzero(both))


def _mask_tail(mask: Array, blocks: int) -> int:
    """How many of the bits after the last block are set; none may be."""
    return int(np.unpackbits(mask, bitorder="little")[blocks:].sum())


def _blocks(array: Array, rows: int, columns: int) -> Array:
    matrix = array.reshape(len(array), -1)
    grid = block_grid(array.shape, rows, columns)
    padding = [(0, grid[0] * rows - matrix.shape[0]), (0, grid[1] * columns - matrix.shape[1])]
    full = np.pad(matrix, padding).reshape(grid[0], rows, grid[1], columns)
    return full.swapaxes(1, 2).reshape(-1, rows, columns)


def _check_encodable(array: Array, rows: int, columns: int, options: Mapping[str, Any]) -> None:
    if options:
        raise OptionError(
            "unknown option of block-sparse", expected="rows, columns", got=", ".join(sorted(options))
        )
    if rows < 1 or columns < 1:
        raise OptionError("a block has at least one element", got=f"{rows}x{columns}")
    if array.dtype != np.float32 or array.ndim < 2 or array.size == 0:
        raise OptionError(
            "block-sparse cannot store this array",
            expected="float32 of rank 2 or more with elements",
            got=f"{array.dtype} {list(array.shape)}",
        )


def _checked_shape(values: Array, mask: Array, shape: Array) -> tuple[int, ...]:
    kinds = (values.dtype == np.float32, mask.dtype == np.uint8, shape.dtype == np.int64)
    ranks = (values.ndim == 3, mask.ndim == 1, shape.ndim == 1)
    if not all(kinds + ranks) or 0 in values.shape[1:] or shape.size < 2 or (shape < 1).any():
        raise ModelError(
            "the parts of a block-sparse weight are malformed",
            expected="float32 [n, R, C], uint8 [m] and int64 [rank] with a shape of positive sizes",
            got=f"{values.dtype} {list(values.shape)}, {mask.dtype} {list(mask.shape)}, {shape.tolist()}",
        )
    dims = tuple(int(size) for size in shape)
    blocks = prod(block_grid(dims, *values.shape[1:]))
    if 4 * blocks * values.shape[1] * values.shape[2] > DECODED_LIMIT:
        raise ModelError(
            "a block-sparse weight decodes to too much", expected=f"{DECODED_LIMIT} bytes", got=dims
        )
    if len(mask) != -(-blocks // 8):
        raise ModelError(
            "the mask of a block-sparse weight has the wrong length", expected=-(-blocks // 8), got=len(mask)
        )
    return dims
