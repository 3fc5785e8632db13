"""Groups of G inputs in 4 bits each, and only the groups that are not pruned.

A weight of any rank is a matrix [N, K]: the first axis (outputs) times all the others. A group is G
consecutive inputs of one output, G = 16, 32, 64 or 128; the last group of K = q G + r inputs has r, and its
other weights may be anything. n groups survive, ordered by output and then by input:

    quantized    uint8 [n, G / 2]          q in 0 to 15, two to a byte, low half first
    scale        float16 [n]               s
    zero         uint8 [ceil(n / 2)]       z in 0 to 15, packed alike; what is left over is 0
    columns      uint8 or uint16 [n]       which of the ceil(K / G) groups of its output each is, rising
    row_starts   uint32 [N + 1]            groups of all outputs before each; the last is n
    shape        int64 [rank]              the shape of the weight

    W[o, k] = s * (q - z), in float32; 0 where no group survives

W4 in groups with row-wise group sparsity: GQSA, Zeng et al. 2024, arXiv:2412.17560.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gossamer.runtime.errors import ModelError, OptionError

from ..bit_packing import pack_bits, unpack_bits
from .base import DECODED_LIMIT, DOMAIN, FUNCTION_OPSET, Array, Format

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["GROUPS", "GroupSparseInt4", "Groups", "pack_groups", "parse_groups", "stored_bytes"]

GROUPS = (16, 32, 64, 128)
"""Inputs of a group."""
_LEVELS = 15  # the largest q

# A row of `table` for each group of the dense matrix: zeros, and what survives in its place.
_FUNCTION = """
<domain: "{domain}", opset_import: ["" : {opset}]>
GroupSparseInt4Decode (quantized, scale, zero, columns, row_starts, shape) => (W)
{{
    none = Constant <value_ints = [0]> ()
    one = Constant <value_ints = [1]> ()
    two = Constant <value_ints = [2]> ()
    all = Constant <value_ints = [-1]> ()
    end = Constant <value_ints = [9223372036854775807]> ()
    axis = Constant <value_int = 0> ()
    low = Constant <value = uint8[1] {{15}}> ()
    shifts = Constant <value = uint8[2] {{0, 4}}> ()

    half = Shape <start = 1, end = 2> (quantized)
    group = Mul (half, two)
    kept = Shape (scale)
    outputs = Slice (shape, none, one)
    inner = Slice (shape, one, end)
    inputs = ReduceProd <keepdims = 1> (inner)
    less = Sub (group, one)
    more = Add (inputs, less)
    across = Div (more, group)

    pairs = Unsqueeze (quantized, all)
    shifted = BitShift <direction = "RIGHT"> (pairs, shifts)
    nibbles = BitwiseAnd (shifted, low)
    grid = Concat <axis = 0> (kept, group)
    levels_u = Reshape (nibbles, grid)
    levels = Cast <to = 1> (levels_u)
    zero_pairs = Unsqueeze (zero, all)
    zero_shifted = BitShift <direction = "RIGHT"> (zero_pairs, shifts)
    zero_nibbles = BitwiseAnd (zero_shifted, low)
    zero_flat = Reshape (zero_nibbles, all)
    zero_kept = Slice (zero_flat, none, kept)
    zero_f = Cast <to = 1> (zero_kept)
    zeros = Unsqueeze (zero_f, one)
    scale_f = Cast <to = 1> (scale)
    scales = Unsqueeze (scale_f, one)
    centred = Sub (levels, zeros)
    values = Mul (scales, centred)

    starts_all = Cast <to = 7> (row_starts)
    starts = Slice (starts_all, one, outputs)
    places_count = Add (kept, one)
    no_marks = ConstantOfShape <value = int64[1] {{0}}> (places_count)
    marks_shape = Shape (starts)
    marks = ConstantOfShape <value = int64[1] {{1}}> (marks_shape)
    marked = ScatterElements <axis = 0, reduction = "add"> (no_marks, starts, marks)
    rows_all = CumSum (marked, axis)
    rows = Slice (rows_all, none, kept)
    rows_before = Mul (rows, across)
    columns_l = Cast <to = 7> (columns)
    place = Add (rows_before, columns_l)
    index = Unsqueeze (place, one)

    total = Mul (outputs, across)
    table_shape = Concat <axis = 0> (total, group)
    empty = ConstantOfShape (table_shape)
    table = ScatterND (empty, index, values)
    padded_inputs = Mul (across, group)
    padded_shape = Concat <axis = 0> (outputs, padded_inputs)
    padded = Reshape (table, padded_shape)
    matrix = Slice (padded, none, inputs, one)
    W = Reshape (matrix, shape)
}}
"""


@dataclass(frozen=True)
class Groups:
    """The surviving groups of a weight of `shape`, checked.

    `levels` (n, G) and `zero` (n,) uint8 in 0 to 15, `scale` (n,) float32, `columns` (n,) and `row_starts`
    (N + 1,) int64.
    """

    shape: tuple[int, ...]
    levels: npt.NDArray[np.uint8]
    scale: npt.NDArray[np.float32]
    zero: npt.NDArray[np.uint8]
    columns: npt.NDArray[np.int64]
    row_starts: npt.NDArray[np.int64]

    @property
    def size(self) -> int:
        """G."""
        return int(self.levels.shape[1])

    @property
    def across(self) -> int:
        """Groups of one output, pruned ones included."""
        return -(-prod(self.shape[1:]) // self.size)

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """The output of each group, (n,)."""
        return np.repeat(np.arange(len(self.row_starts) - 1), np.diff(self.row_starts))

    def of_shape(self, shape: tuple[int, ...]) -> Groups:
        """The same groups of a weight of another shape with as many outputs and inputs."""
        return replace(self, shape=shape)

    def values(self) -> npt.NDArray[np.float32]:
        """The weights, (n, G) float32."""
        centred = self.levels.astype(np.float32) - self.zero.astype(np.float32)[:, None]
        found: npt.NDArray[np.float32] = self.scale[:, None] * centred
        return found

    def matrix(self) -> npt.NDArray[np.float32]:
        """The weight as (N, K) float32."""
        outputs = len(self.row_starts) - 1
        table = np.zeros((outputs * self.across, self.size), np.float32)
        table[self.rows * self.across + self.columns] = self.values()
        return table.reshape(outputs, -1)[:, : prod(self.shape[1:])]


class GroupSparseInt4(Format):
    """Groups of 16 to 128 inputs in 4 bits, pruned groups not stored."""

    name = "group-sparse-int4"
    operator = "GroupSparseInt4Decode"
    parts = ("quantized", "scale", "zero", "columns", "row_starts", "shape")
    summary = "1 x G groups that survive pruning, in 4 bits with a float16 scale and a 4-bit zero point each"

    def encode(self, array: Array, *, group: int = 16, **options: Any) -> dict[str, Array]:
        """Round `array`, float32 of rank >= 2; groups that are all zero are pruned.

        Scale and zero point of a group span its least and largest weight, and 0: nothing is clipped.
        """
        _check_encodable(array, group, options)
        matrix = array.reshape(len(array), -1)
        padded = np.pad(matrix, [(0, 0), (0, -matrix.shape[1] % group)])
        table = padded.reshape(len(array), -1, group)
        alive = table.any(axis=2)
        kept = table[alive]
        low, high = np.minimum(kept.min(axis=1), 0), np.maximum(kept.max(axis=1), 0)
        scale = np.maximum((high - low) / _LEVELS, np.finfo(np.float16).smallest_subnormal).astype(np.float16)
        wide = scale.astype(np.float32)
        zero = np.clip(np.rint(-low / wide), 0, _LEVELS)
        levels = np.clip(np.rint(kept / wide[:, None]) + zero[:, None], 0, _LEVELS)
        starts = np.concatenate([[0], np.cumsum(alive.sum(axis=1))])
        columns = np.nonzero(alive)[1]
        return pack_groups(
            Groups(array.shape, levels.astype(np.uint8), wide, zero.astype(np.uint8), columns, starts)
        )

    def decode(self, parts: Mapping[str, Array]) -> Array:
        """The weight: float32, of the stored shape."""
        found = parse_groups(parts)
        return np.ascontiguousarray(found.matrix()).reshape(found.shape)

    def function(self, opset: int = FUNCTION_OPSET) -> ir.Function:
        """`GroupSparseInt4Decode(...) -> W`; its operators mean the same since opset 18."""
        import onnx
        import onnx_ir

        text = _FUNCTION.format(domain=DOMAIN, opset=opset)
        return onnx_ir.serde.deserialize_function(onnx.parser.parse_function(text))


def pack_groups(groups: Groups) -> dict[str, Array]:
    """The parts of a weight; scales are rounded to float16, in which they should be given."""
    return {
        "quantized": pack_bits(groups.levels, 4).reshape(-1, groups.size // 2),
        "scale": groups.scale.astype(np.float16),
        "zero": pack_bits(groups.zero, 4),
        "columns": groups.columns.astype(_column_type(groups.across)),
        "row_starts": groups.row_starts.astype(np.uint32),
        "shape": np.array(groups.shape, np.int64),
    }


def parse_groups(parts: Mapping[str, Array]) -> Groups:
    """What the parts say. Raises ModelError where they contradict each other."""
    given = [parts[name] for name in GroupSparseInt4.parts]
    quantized, scale, zero, columns, starts, _ = given
    shape = _checked_shape(*given)
    count, group = len(scale), 2 * quantized.shape[1]
    across = -(-prod(shape[1:]) // group)
    expected = (count, -(-count // 2), count, shape[0] + 1)
    got = (len(quantized), len(zero), len(columns), len(starts))
    if got != expected:
        raise ModelError(
            "the parts of a group-sparse weight do not fit together",
            expected=f"lengths {expected} of quantized, zero, columns and row_starts",
            got=got,
        )
    row_starts, places = starts.astype(np.int64), columns.astype(np.int64)
    if row_starts[0] != 0 or row_starts[-1] != count or (np.diff(row_starts) < 0).any():
        raise ModelError(
            "the row starts of a group-sparse weight are wrong", expected=f"rising from 0 to {count}"
        )
    same = np.ones(max(0, count - 1), bool)
    inner = row_starts[(row_starts > 0) & (row_starts < count)]
    same[inner - 1] = False
    if (places >= across).any() or (np.diff(places) <= 0)[same].any():
        raise ModelError(
            "the columns of a group-sparse weight are wrong",
            expected=f"rising numbers below {across} for each output",
        )
    if not np.isfinite(scale).all():
        raise ModelError("a scale of a group-sparse weight is not finite")
    levels = unpack_bits(quantized.reshape(-1), 4, quantized.size * 2).reshape(count, group)
    return Groups(shape, levels, scale.astype(np.float32), unpack_bits(zero, 4, count), places, row_starts)


def stored_bytes(shape: tuple[int, ...], group: int, kept: int) -> int:
    """Bytes of a weight of `shape` of which `kept` groups survive."""
    column = np.dtype(_column_type(-(-prod(shape[1:]) // group))).itemsize
    return kept * (group // 2 + 2 + column) + -(-kept // 2) + 4 * (shape[0] + 1) + 8 * len(shape)


def _column_type(across: int) -> type[np.unsignedinteger[Any]]:
    return np.uint8 if across <= 2**8 else np.uint16


def _check_encodable(array: Array, group: int, options: Mapping[str, Any]) -> None:
    if options:
        raise OptionError(
            "unknown option of group-sparse-int4", expected="group", got=", ".join(sorted(options))
        )
    if group not in GROUPS:
        raise OptionError("not a group size", expected="one of " + ", ".join(map(str, GROUPS)), got=group)
    if array.dtype != np.float32 or array.ndim < 2 or array.size == 0:
        raise OptionError(
            "group-sparse-int4 cannot store this array",
            expected="float32 of rank 2 or more with elements",
            got=f"{array.dtype} {list(array.shape)}",
        )
    if not np.isfinite(array).all() or np.abs(array).max() > np.finfo(np.float16).max:
        raise OptionError("group-sparse-int4 cannot store this array", expected="finite values of float16")
    if prod(array.shape[1:]) > group << 16:
        raise OptionError(
            "too many groups for each output", expected=1 << 16, got=-(-prod(array.shape[1:]) // group)
        )


def _checked_shape(
    quantized: Array, scale: Array, zero: Array, columns: Array, row_starts: Array, shape: Array
) -> tuple[int, ...]:
    given = (quantized, scale, zero, columns, row_starts, shape)
    kinds = ("uint8", "float16", "uint8", columns.dtype.name, "uint32", "int64")
    right = all(part.dtype.name == kind for part, kind in zip(given, kinds, strict=True))
    ranks = all(part.ndim == rank for part, rank in zip(given, (2, 1, 1, 1, 1, 1), strict=True))
    right = right and ranks and columns.dtype.name in ("uint8", "uint16")
    if not right or 2 * quantized.shape[1] not in GROUPS or shape.size < 2 or (shape < 1).any():
        raise ModelError(
            "the parts of a group-sparse weight are malformed",
            expected="uint8 [n, G / 2], float16 [n], uint8, uint8 or uint16 [n], uint32, int64 [rank]",
            got=", ".join(f"{part.dtype} {list(part.shape)}" for part in given),
        )
    dims = tuple(int(size) for size in shape)
    group = 2 * quantized.shape[1]
    if 4 * dims[0] * -(-prod(dims[1:]) // group) * group > DECODED_LIMIT:
        raise ModelError(
            "a group-sparse weight decodes to too much", expected=f"{DECODED_LIMIT} bytes", got=dims
        )
    return dims
