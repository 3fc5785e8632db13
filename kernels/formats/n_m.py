"""Of every M consecutive inputs at most N weights are stored, with their positions.

A weight [O, I, taps...] is cut along its inputs: a group is M consecutive input channels of one output and
one tap; the last group of I = q M + r inputs has r. With G = ceil(I / M) groups, T taps (1 for a matrix) and
B = ceil(log2 M) bits:

    values     float32 or float16 [O, T, G, N]   the stored weights of each group, by rising position
    positions  uint8 [ceil(O T G N B / 8)]       where each lies in its group: numbers of B bits, in the order
                                                 of the values, packed as kernels/bit_packing.py tells
    shape      int64 [rank]                      the shape of the weight
    group      int64 [1]                         M

A group with fewer than N weights stores zeros at positions that are free. N:M sparsity: Mishra et al. 2021,
arXiv:2104.08378.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from gossamer.runtime.errors import ModelError, OptionError

from ..bit_packing import pack_bits, packed_bytes, unpack_bits
from .base import DECODED_LIMIT, DOMAIN, FUNCTION_OPSET, Array, Format

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["LARGEST_GROUP", "NM", "most_kept", "position_bits"]

LARGEST_GROUP = 16

# Eight positions are B whole bytes, which make one integer: B <= 4.
_FUNCTION = """
<domain: "{domain}", opset_import: ["" : {opset}]>
NMDecode (values, positions, shape, group) => (W)
{{
    zero = Constant <value_ints = [0]> ()
    one = Constant <value_ints = [1]> ()
    two = Constant <value_ints = [2]> ()
    all = Constant <value_ints = [-1]> ()
    end = Constant <value_ints = [9223372036854775807]> ()
    axis = Constant <value_int = 0> ()
    step = Constant <value_int = 1> ()

    powers = Constant <value = int64[4] {{1, 2, 4, 8}}> ()
    larger = Less (powers, group)
    places_needed = Cast <to = 7> (larger)
    bits = ReduceSum <keepdims = 1> (places_needed, zero)
    length = Shape (positions)
    less = Sub (bits, one)
    more = Add (length, less)
    rows = Div (more, bits)
    whole = Mul (rows, bits)
    missing = Sub (whole, length)
    pads = Concat <axis = 0> (zero, missing)
    padded = Pad (positions, pads)
    bytes_shape = Concat <axis = 0> (rows, bits)
    bytes = Reshape (padded, bytes_shape)
    wide = Cast <to = 7> (bytes)
    byte_units = Constant <value = int64[4] {{1, 256, 65536, 16777216}}> ()
    used_units = Slice (byte_units, zero, bits)
    shifted = Mul (wide, used_units)
    words = ReduceSum <keepdims = 1> (shifted, one)
    eight = Constant <value_int = 8> ()
    places = Range (axis, eight, step)
    starts = Mul (places, bits)
    starts_u = Cast <to = 13> (starts)
    unit = Constant <value = uint64[1] {{1}}> ()
    units_u = BitShift <direction = "LEFT"> (unit, starts_u)
    units = Cast <to = 7> (units_u)
    right = Div (words, units)
    bits_u = Cast <to = 13> (bits)
    limit_u = BitShift <direction = "LEFT"> (unit, bits_u)
    limit = Cast <to = 7> (limit_u)
    numbers = Mod (right, limit)
    flat = Reshape (numbers, all)
    grid = Shape (values)
    count = ReduceProd <keepdims = 1> (grid)
    kept = Slice (flat, zero, count)
    index = Reshape (kept, grid)

    outer = Shape <start = 0, end = 3> (values)
    full_shape = Concat <axis = 0> (outer, group)
    empty = ConstantOfShape (full_shape)
    weights = Cast <to = 1> (values)
    groups = ScatterElements <axis = 3> (empty, index, weights)
    rows_shape = Constant <value_ints = [0, 0, -1]> ()
    padded_rows = Reshape (groups, rows_shape)
    inputs = Slice (shape, one, two)
    cut = Slice (padded_rows, zero, inputs, two)
    turned = Transpose <perm = [0, 2, 1]> (cut)
    W = Reshape (turned, shape)
}}
"""


class NM(Format):
    """N of every M consecutive inputs, and where they lie."""

    name = "n-m"
    operator = "NMDecode"
    parts = ("values", "positions", "shape", "group")
    summary = "N of every M consecutive inputs in float32 or float16, and log2 M bits for each position"

    def encode(
        self, array: Array, *, kept: int = 2, of: int = 4, dtype: str = "float32", **options: Any
    ) -> dict[str, Array]:
        """Pack `array`: float32, rank >= 2, of whose groups of `of` none has more than `kept` non-zeros.

        `dtype` is that of the values: float16 rounds. Raises OptionError.

        >>> parts = NM().encode(np.array([[0, 5, 0, 7, 0, 0, 3, 0]], np.float32), kept=2, of=4)
        >>> parts["values"].tolist(), parts["positions"].tolist()
        ([[[[5.0, 7.0], [0.0, 3.0]]]], [141])
        """
        _check_encodable(array, kept, of, dtype, options)
        groups = _groups(array, of)
        alive = groups != 0
        if (most := int(alive.sum(axis=-1).max())) > kept:
            raise OptionError(
                f"a weight is not {kept}:{of} sparse",
                expected=f"{kept} non-zeros at most of each {of} consecutive inputs",
                got=most,
            )
        # non-zeros first, each kind by rising position
        order = np.argsort(~alive, axis=-1, kind="stable")[..., :kept]
        chosen = np.sort(order, axis=-1).astype(np.uint8)
        return {
            "values": np.take_along_axis(groups, chosen, axis=-1).astype(dtype),
            "positions": pack_bits(chosen, position_bits(of)),
            "shape": np.array(array.shape, np.int64),
            "group": np.array([of], np.int64),
        }

    def decode(self, parts: Mapping[str, Array]) -> Array:
        """The weight: float32, of the stored shape."""
        values, stream, shape, group = (parts[name] for name in self.parts)
        dims, of = _checked_sizes(values, stream, shape, group)
        positions = unpack_bits(stream, position_bits(of), values.size).reshape(values.shape)
        if (positions >= of).any() or (np.diff(positions.astype(np.int8), axis=-1) <= 0).any():
            raise ModelError(
                "the positions of an N:M weight are wrong",
                expected=f"rising positions below {of} in each group",
            )
        groups = np.zeros((*values.shape[:3], of), np.float32)
        np.put_along_axis(groups, positions, values.astype(np.float32), axis=-1)
        rows = groups.reshape(*values.shape[:2], -1)[..., : dims[1]]
        return np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(dims)

    def function(self, opset: int = FUNCTION_OPSET) -> ir.Function:
        """`NMDecode(values, positions, shape, group) -> W`; its operators mean the same since opset 18."""
        import onnx
        import onnx_ir

        text = _FUNCTION.format(domain=DOMAIN, opset=opset)
        return onnx_ir.serde.deserialize_function(onnx.parser.parse_function(text))


def position_bits(of: int) -> int:
    """Bits of a position in a group of `of`.

    >>> [position_bits(of) for of in (2, 4, 5, 8, 16)]
    [1, 2, 3, 3, 4]
    """
    return (of - 1).bit_length()


def most_kept(array: Array, of: int) -> int:
    """The most non-zeros that any group of `of` consecutive inputs of `array` [O, I, ...] has."""
    return int(np.count_nonzero(_groups(array, of), axis=-1).max())


def _groups(array: Array, of: int) -> Array:
    """`array` [O, I, taps...] as [O, T, G, M], the last group padded with zeros."""
    rows = np.moveaxis(array.reshape(*array.shape[:2], -1), 1, 2)
    padded = np.pad(rows, [(0, 0), (0, 0), (0, -array.shape[1] % of)])
    return padded.reshape(*padded.shape[:2], -1, of)


def _check_encodable(array: Array, kept: int, of: int, dtype: str, options: Mapping[str, Any]) -> None:
    if options:
        raise OptionError("unknown option of n-m", expected="kept, of, dtype", got=", ".join(sorted(options)))
    if not 1 <= kept < of <= LARGEST_GROUP:
        raise OptionError("not an N:M pattern", expected=f"1 <= N < M <= {LARGEST_GROUP}", got=f"{kept}:{of}")
    if dtype not in ("float32", "float16"):
        raise OptionError("n-m cannot store values so", expected="float32 or float16", got=dtype)
    if array.dtype != np.float32 or array.ndim < 2 or array.size == 0:
        raise OptionError(
            "n-m cannot store this array",
            expected="float32 of rank 2 or more with elements",
            got=f"{array.dtype} {list(array.shape)}",
        )


def _checked_sizes(values: Array, stream: Array, shape: Array, group: Array) -> tuple[tuple[int, ...], int]:
    kinds = (values.dtype in (np.float32, np.float16), stream.dtype == np.uint8)
    integers = (shape.dtype == np.int64, group.dtype == np.int64)
    ranks = (values.ndim == 4, stream.ndim == 1, shape.ndim == 1, group.shape == (1,))
    if not all(kinds + integers + ranks) or shape.size < 2 or (shape < 1).any():
        raise ModelError(
            "the parts of an N:M weight are malformed",
            expected="float values [O, T, G, N], uint8 [n], int64 [rank] of positive sizes and int64 [1]",
            got=f"{values.dtype} {list(values.shape)}, {stream.dtype} {list(stream.shape)}, "
            f"{shape.tolist()}, {group.tolist()}",
        )
    dims, of = tuple(int(size) for size in shape), int(group[0])
    if not 1 <= values.shape[3] < of <= LARGEST_GROUP:
        raise ModelError(
            "not an N:M pattern",
            expected=f"1 <= N < M <= {LARGEST_GROUP}",
            got=f"{values.shape[3]}:{of}",
        )
    grid = (dims[0], prod(dims[2:]), -(-dims[1] // of))
    if 4 * prod(grid) * of > DECODED_LIMIT:
        raise ModelError("an N:M weight decodes to too much", expected=f"{DECODED_LIMIT} bytes", got=dims)
    length = packed_bytes(values.size, position_bits(of))
    if values.shape[:3] != grid or len(stream) != length:
        raise ModelError(
            "the parts of an N:M weight do not fit its shape",
            expected=f"values {[*grid, values.shape[3]]} and {length} bytes of positions",
            got=f"{list(values.shape)} and {len(stream)}",
        )
    return dims, of
