"""Weights are indices of n = 1 to 8 bits into small tables of values (palettes).

A weight of any rank is seen as a matrix [O, K]: the first axis (outputs) times all the others. A codeword is
a column of d = 1, 2, 4 or 8 weights: d consecutive outputs of one input, so that the lanes of a vector
register, which are outputs in our kernels, come from one load of the table, and all d meet the same
activation (VPTQ's axis, arXiv:2409.17066). If d does not divide O, the last codewords of each input decode
to rows beyond O, which are cut off. With V = ceil(O / d):

    indices    uint8 [ceil(books * V * K * n / 8)]   numbers of n bits, in the order [books, V, K], packed as
                                                     kernels/bit_packing.py tells
    lut        float16, float32 or int8 [books, ceil(O / G), ceil(K / B), 2 ** n, d]
    lut_scale  float16 or float32 [books, ceil(O / G), ceil(K / B)], or [1, 1, 1] where it is one
    scale      float16 or float32 [O], or [1] where it is one
    shape      int64 [rank]   the shape of the weight
    form       int64 [3]      n, G and B: outputs and inputs (of the K) that share a table; d divides G

    W[o, k] = scale[o] * sum over books of lut_scale[b, o / G, k / B] * lut[b, o / G, k / B, index, o % d]
    with index = indices[b, o / d, k]

all in float32, the products of the tables first, then the books in their order, then the scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gossamer.runtime.errors import ModelError, OptionError

from ..bit_packing import pack_bits, packed_bytes, unpack_bits
from .base import DECODED_LIMIT, DOMAIN, FUNCTION_OPSET, Array, Format

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["VECTORS", "Palette", "PaletteForm", "pack_palette", "parse_palette"]

VECTORS = (1, 2, 4, 8)
"""Weights of one codeword."""

# Eight indices are n whole bytes: a row of `bytes`. An index that crosses into the next byte takes its high
# bits from `second`; `left` is shifted in two steps, since a shift by all 8 bits is undefined.
_FUNCTION = """
<domain: "{domain}", opset_import: ["" : {opset}]>
PaletteDecode (indices, lut, lut_scale, scale, shape, form) => (W)
{{
    zero = Constant <value_ints = [0]> ()
    one = Constant <value_ints = [1]> ()
    two = Constant <value_ints = [2]> ()
    three = Constant <value_ints = [3]> ()
    eight = Constant <value_ints = [8]> ()
    all = Constant <value_ints = [-1]> ()
    end = Constant <value_ints = [9223372036854775807]> ()
    start = Constant <value_int = 0> ()
    step = Constant <value_int = 1> ()

    n = Slice (form, zero, one)
    group_rows = Slice (form, one, two)
    block_columns = Slice (form, two, three)
    books = Shape <start = 0, end = 1> (lut)
    groups = Shape <start = 1, end = 2> (lut)
    blocks = Shape <start = 2, end = 3> (lut)
    entries = Shape <start = 3, end = 4> (lut)
    d = Shape <start = 4, end = 5> (lut)
    outputs = Slice (shape, zero, one)
    inner = Slice (shape, one, end)
    sizes = Concat <axis = 0> (one, inner)
    inputs = ReduceProd <keepdims = 1> (sizes)
    d_less = Sub (d, one)
    o_more = Add (outputs, d_less)
    vectors = Div (o_more, d)

    length = Shape (indices)
    n_less = Sub (n, one)
    l_more = Add (length, n_less)
    rows = Div (l_more, n)
    whole = Mul (rows, n)
    missing = Sub (whole, length)
    pads = Concat <axis = 0> (zero, missing)
    padded = Pad (indices, pads)
    bytes_shape = Concat <axis = 0> (rows, n)
    bytes = Reshape (padded, bytes_shape)
    places = Constant <value_ints = [0, 1, 2, 3, 4, 5, 6, 7]> ()
    starts = Mul (places, n)
    low = Div (starts, eight)
    next = Add (low, one)
    high = Min (next, n_less)
    before = Mul (low, eight)
    offset = Sub (starts, before)
    shift = Cast <to = 2> (offset)
    seven = Constant <value = uint8[1] {{7}}> ()
    rest = Sub (seven, shift)
    bit = Constant <value = uint8[1] {{1}}> ()
    first = Gather <axis = 1> (bytes, low)
    right = BitShift <direction = "RIGHT"> (first, shift)
    second = Gather <axis = 1> (bytes, high)
    almost = BitShift <direction = "LEFT"> (second, rest)
    left = BitShift <direction = "LEFT"> (almost, bit)
    either = BitwiseOr (right, left)
    largest = Sub (entries, one)
    mask = Cast <to = 2> (largest)
    numbers = BitwiseAnd (either, mask)
    flat = Reshape (numbers, all)
    codes_shape = Concat <axis = 0> (books, vectors, inputs)
    count = ReduceProd <keepdims = 1> (codes_shape)
    used = Slice (flat, zero, count)
    codes = Reshape (used, codes_shape)
    index = Cast <to = 6> (codes)

    none = Constant <value_ints = [0]> ()
    books_n = Squeeze (books, none)
    vectors_n = Squeeze (vectors, none)
    inputs_n = Squeeze (inputs, none)
    book = Range (start, books_n, step)
    book_groups = Mul (book, groups)
    column = Constant <value_ints = [1, 2]> ()
    book_column = Unsqueeze (book_groups, column)
    vector = Range (start, vectors_n, step)
    output = Mul (vector, d)
    group = Div (output, group_rows)
    group_column = Unsqueeze (group, one)
    lut_row = Add (book_column, group_column)
    block_size = Mul (blocks, entries)
    row_start = Mul (lut_row, block_size)
    row_offset = Cast <to = 6> (row_start)
    input = Range (start, inputs_n, step)
    block = Div (input, block_columns)
    block_start = Mul (block, entries)
    column_offset = Cast <to = 6> (block_start)
    in_row = Add (index, row_offset)
    at = Add (in_row, column_offset)

    lut_float = Cast <to = 1> (lut)
    lut_scale_float = Cast <to = 1> (lut_scale)
    last = Constant <value_ints = [3, 4]> ()
    lut_factor = Unsqueeze (lut_scale_float, last)
    lut_scaled = Mul (lut_float, lut_factor)
    table_shape = Concat <axis = 0> (all, d)
    table = Reshape (lut_scaled, table_shape)
    terms = Gather <axis = 0> (table, at)
    sum = ReduceSum <keepdims = 0> (terms, zero)
    turned = Transpose <perm = [0, 2, 1]> (sum)
    matrix_shape = Concat <axis = 0> (all, inputs)
    full = Reshape (turned, matrix_shape)
    cut = Slice (full, zero, outputs, zero)
    scale_float = Cast <to = 1> (scale)
    factor = Unsqueeze (scale_float, one)
    scaled = Mul (cut, factor)
    W = Reshape (scaled, shape)
}}
"""
_FLOATS = (np.dtype(np.float16), np.dtype(np.float32))


@dataclass(frozen=True)
class PaletteForm:
    """Sizes of a palette: n bits, d weights a codeword, books, and the outputs and inputs of one table."""

    shape: tuple[int, ...]
    bits: int
    vector: int
    books: int
    group_rows: int
    block_columns: int

    @property
    def outputs(self) -> int:
        """O, the rows of the matrix."""
        return self.shape[0]

    @property
    def inputs(self) -> int:
        """K, the columns of the matrix."""
        return prod(self.shape[1:])

    @property
    def vectors(self) -> int:
        """V, the codewords of one input in one book."""
        return -(-self.outputs // self.vector)

    @property
    def lut_shape(self) -> tuple[int, ...]:
        """[books, groups, blocks, 2 ** n, d]."""
        groups, blocks = -(-self.outputs // self.group_rows), -(-self.inputs // self.block_columns)
        return self.books, groups, blocks, 2**self.bits, self.vector

    @property
    def codes_shape(self) -> tuple[int, ...]:
        """[books, V, K]."""
        return self.books, self.vectors, self.inputs


@dataclass(frozen=True)
class Palette:
    """A stored weight, checked and unpacked.

    `codes` uint8 [books, V, K]; `tables` float32 [books, groups, blocks, 2 ** n, d] (lut times lut_scale);
    `scale` float32 [O] or [1].
    """

    form: PaletteForm
    codes: npt.NDArray[np.uint8]
    tables: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]

    def decode(self) -> Array:
        """The weight: float32, of the form's shape."""
        form = self.form
        rows = np.arange(form.vectors) * form.vector // form.group_rows
        columns = np.arange(form.inputs) // form.block_columns
        matrix = np.zeros((form.vectors, form.inputs, form.vector), np.float32)
        for book, (tables, codes) in enumerate(zip(self.tables, self.codes, strict=True)):
            terms = tables[rows[:, None], columns, codes]
            matrix = matrix + terms if book else terms
        full = matrix.swapaxes(1, 2).reshape(-1, form.inputs)[: form.outputs]
        decoded: Array = (full * self.scale[:, None]).reshape(form.shape)
        return decoded


class PaletteFormat(Format):
    """Indices of 1 to 8 bits into tables of values, by tensor, group of outputs, or block."""

    name = "palette"
    operator = "PaletteDecode"
    parts = ("indices", "lut", "lut_scale", "scale", "shape", "form")
    summary = "indices of 1 to 8 bits, each exactly that wide, into tables of float16, float32 or int8 values"

    def encode(self, array: Array, *, bits: int | None = None, **options: Any) -> dict[str, Array]:
        """Pack `array` losslessly: float32 with at most 2 ** `bits` distinct values.

        Without `bits` as few as it takes; a negative zero is a zero. Values that float16 holds exactly are
        stored in it. For weights that are clustered see `pack_palette`.

        >>> parts = PaletteFormat().encode(np.array([[0.5, 2], [2, 0.5]], np.float32))
        >>> parts["indices"].tolist(), parts["lut"].ravel().tolist()
        ([6], [0.5, 2.0])
        """
        if options:
            raise OptionError("unknown option of palette", expected="bits", got=", ".join(sorted(options)))
        if array.dtype != np.float32 or array.ndim < 1 or array.size == 0:
            raise OptionError(
                "palette cannot store this array",
                expected="float32 of rank 1 or more with elements",
                got=f"{array.dtype} {list(array.shape)}",
            )
        patterns, codes = np.unique((array + np.float32(0)).view(np.uint32), return_inverse=True)
        least = max(1, (len(patterns) - 1).bit_length())
        bits = least if bits is None else bits
        if not least <= bits <= 8:
            raise OptionError(
                "the bits of a palette do not fit the distinct values of the weight",
                expected=f"{least} to 8" if least <= 8 else "at most 256 values",
                got=f"{bits} bits for {len(patterns)} values",
            )
        values = patterns.view(np.float32)
        table = np.concatenate([values, np.repeat(values[-1:], 2**bits - len(values))])
        half = table.astype(np.float16)
        exact = half.astype(np.float32).tobytes() == table.tobytes()
        form = PaletteForm(array.shape, bits, 1, 1, len(array), max(1, prod(array.shape[1:])))
        lut = (half if exact else table).reshape(form.lut_shape)
        return pack_palette(form, codes.astype(np.uint8), lut)

    def decode(self, parts: Mapping[str, Array]) -> Array:
        """The weight: float32, of the stored shape."""
        return parse_palette(parts).decode()

    def function(self, opset: int = FUNCTION_OPSET) -> ir.Function:
        """`PaletteDecode(indices, lut, lut_scale, scale, shape, form) -> W`, the same since opset 18."""
        import onnx
        import onnx_ir

        text = _FUNCTION.format(domain=DOMAIN, opset=opset)
        return onnx_ir.serde.deserialize_function(onnx.parser.parse_function(text))


def pack_palette(
    form: PaletteForm,
    codes: Array,
    lut: Array,
    lut_scale: Array | None = None,
    scale: Array | None = None,
) -> dict[str, Array]:
    """The parts of a weight.

    `codes` are uint8 [books, V, K] below 2 ** bits, `lut` is float16, float32 or int8 [books, groups, blocks,
    2 ** bits, d], `lut_scale` float16 or float32 [books, groups, blocks], positive, `scale` float16 or
    float32 [O].
    """
    ones = np.ones(1, np.float16)
    parts = {
        "indices": pack_bits(codes.astype(np.uint8, copy=False), form.bits),
        "lut": np.ascontiguousarray(
            lut + lut.dtype.type(0)
        ),  # a sum may lose the sign of a zero: none has one
        "lut_scale": ones.reshape(1, 1, 1) if lut_scale is None else np.ascontiguousarray(lut_scale),
        "scale": ones if scale is None else np.ascontiguousarray(scale),
        "shape": np.array(form.shape, np.int64),
        "form": np.array([form.bits, form.group_rows, form.block_columns], np.int64),
    }
    assert codes.size == prod(form.codes_shape)
    assert _checked_form(parts) == form
    return parts


def parse_palette(parts: Mapping[str, Array]) -> Palette:
    """The stored weight, its parts checked against each other. Raises ModelError where they do not fit."""
    form = _checked_form(parts)
    count = prod(form.codes_shape)
    codes = unpack_bits(parts["indices"], form.bits, count)
    left = -count * form.bits % 8
    if left and int(parts["indices"][-1]) >> 8 - left:
        raise ModelError(
            "the indices of a palette are malformed",
            expected=f"{left} zero bits after the last",
            got=int(parts["indices"][-1]),
        )
    tables = parts["lut"].astype(np.float32) * parts["lut_scale"].astype(np.float32)[..., None, None]
    scale = parts["scale"].astype(np.float32)
    return Palette(form, codes.reshape(form.codes_shape), tables + np.float32(0), scale)


def _checked_form(parts: Mapping[str, Array]) -> PaletteForm:
    _check_kinds(parts)
    dims = tuple(int(size) for size in parts["shape"])
    books, vector = parts["lut"].shape[0], parts["lut"].shape[4]
    bits, group_rows, block_columns = (int(number) for number in parts["form"])
    if (
        vector not in VECTORS
        or not 1 <= bits <= 8
        or min(group_rows, block_columns) < 1
        or group_rows % vector
    ):
        raise ModelError(
            "the form of a palette is malformed",
            expected=f"1 to 8 bits, one of {VECTORS} weights a codeword, groups of whole codewords, blocks",
            got=f"{bits} bits, {vector} weights, groups of {group_rows} and blocks of {block_columns}",
        )
    form = PaletteForm(dims, bits, vector, books, group_rows, block_columns)
    if 4 * max(books * form.vectors * vector * form.inputs, parts["lut"].size) > DECODED_LIMIT:
        raise ModelError("a palette decodes to too much", expected=f"{DECODED_LIMIT} bytes", got=dims)
    wanted = {
        "indices": ((packed_bytes(prod(form.codes_shape), bits),),),
        "lut": (form.lut_shape,),
        "lut_scale": (form.lut_shape[:3], (1, 1, 1)),
        "scale": ((dims[0],), (1,)),
    }
    for name, shapes in wanted.items():
        if parts[name].shape not in shapes:
            raise ModelError(
                f"the part {name} of a palette has the wrong shape",
                expected=" or ".join(str(list(s)) for s in shapes),
                got=list(parts[name].shape),
            )
    return form


def _check_kinds(parts: Mapping[str, Array]) -> None:
    """Types, ranks and positive sizes of all parts."""
    kinds = {
        "indices": ((np.dtype(np.uint8),), 1),
        "lut": ((*_FLOATS, np.dtype(np.int8)), 5),
        "lut_scale": (_FLOATS, 3),
        "scale": (_FLOATS, 1),
        "shape": ((np.dtype(np.int64),), 1),
        "form": ((np.dtype(np.int64),), 1),
    }
    for name, (types, rank) in kinds.items():
        part = parts[name]
        if part.dtype not in types or part.ndim != rank or part.size == 0:
            raise ModelError(
                f"the part {name} of a palette is malformed",
                expected=f"{' or '.join(map(str, types))} of rank {rank} with elements",
                got=f"{part.dtype} {list(part.shape)}",
            )
    if (parts["shape"] < 1).any() or len(parts["form"]) != 3:
        raise ModelError(
            "the shape or form of a palette is malformed",
            expected="positive sizes, and three numbers",
            got=f"{parts['shape'].tolist()}, {parts['form'].tolist()}",
        )
