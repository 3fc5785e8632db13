"""What formats of codes in groups have in common: ONNX text that unpacks them, and checks of their parts.

A weight of any rank is a matrix [O, K]: the first axis (outputs) times all the others. A group is G
consecutive inputs of one output; the last one may have fewer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer.runtime.errors import ModelError

from .bit_packing import packed_bytes, unpack_bits

__all__ = ["GROUPED", "CodeForm", "check_kinds", "check_sizes", "function_text", "narrowed", "unpacked"]

Array = npt.NDArray[Any]
_LIMIT = 2**31  # bytes that a decoded weight may take
_FLOATS = ("float16", "float32")

GROUPED = """
    none = Constant <value_ints = [0]> ()
    one = Constant <value_ints = [1]> ()
    two = Constant <value_ints = [2]> ()
    end = Constant <value_ints = [9223372036854775807]> ()
    start = Constant <value_int = 0> ()
    step = Constant <value_int = 1> ()
    eight = Constant <value_ints = [8]> ()
    seven = Constant <value = uint8[1] {7}> ()
    bit = Constant <value = uint8[1] {1}> ()
    places = Constant <value_ints = [0, 1, 2, 3, 4, 5, 6, 7]> ()
    masks = Constant <value = uint8[9] {0, 1, 3, 7, 15, 31, 63, 127, 255}> ()
    outputs = Slice (shape, none, one)
    inner = Slice (shape, one, end)
    sizes = Concat <axis = 0> (one, inner)
    inputs = ReduceProd <keepdims = 1> (sizes)
    less = Sub (group, one)
    more = Add (inputs, less)
    across = Div (more, group)
    matrix_shape = Concat <axis = 0> (outputs, inputs)
    groups_shape = Concat <axis = 0> (outputs, across)
    inputs_n = Squeeze (inputs, none)
    input = Range (start, inputs_n, step)
    own = Div (input, group)
"""
"""Constants, sizes, and `own`, the group of each input; `group` and `shape` are given."""

# Eight numbers are n whole bytes: a row of `bytes`. A number that crosses into the next byte takes its high
# bits from `second`; `left` is shifted in two steps, since a shift by all 8 bits is undefined.
_UNPACK = """
    NAME_length = Shape (STREAM)
    NAME_n_less = Sub (BITS, one)
    NAME_l_more = Add (NAME_length, NAME_n_less)
    NAME_rows = Div (NAME_l_more, BITS)
    NAME_whole = Mul (NAME_rows, BITS)
    NAME_missing = Sub (NAME_whole, NAME_length)
    NAME_pads = Concat <axis = 0> (none, NAME_missing)
    NAME_padded = Pad (STREAM, NAME_pads)
    NAME_bytes_shape = Concat <axis = 0> (NAME_rows, BITS)
    NAME_bytes = Reshape (NAME_padded, NAME_bytes_shape)
    NAME_starts = Mul (places, BITS)
    NAME_low = Div (NAME_starts, eight)
    NAME_next = Add (NAME_low, one)
    NAME_high = Min (NAME_next, NAME_n_less)
    NAME_before = Mul (NAME_low, eight)
    NAME_offset = Sub (NAME_starts, NAME_before)
    NAME_shift = Cast <to = 2> (NAME_offset)
    NAME_rest = Sub (seven, NAME_shift)
    NAME_first = Gather <axis = 1> (NAME_bytes, NAME_low)
    NAME_right = BitShift <direction = "RIGHT"> (NAME_first, NAME_shift)
    NAME_second = Gather <axis = 1> (NAME_bytes, NAME_high)
    NAME_almost = BitShift <direction = "LEFT"> (NAME_second, NAME_rest)
    NAME_left = BitShift <direction = "LEFT"> (NAME_almost, bit)
    NAME_either = BitwiseOr (NAME_right, NAME_left)
    NAME_mask = Gather (masks, BITS)
    NAME_numbers = BitwiseAnd (NAME_either, NAME_mask)
    NAME_flat_shape = Constant <value_ints = [-1]> ()
    NAME_flat = Reshape (NAME_numbers, NAME_flat_shape)
    NAME_count = ReduceProd <keepdims = 1> (SHAPE)
    NAME_used = Slice (NAME_flat, none, NAME_count)
    NAME = Reshape (NAME_used, SHAPE)
"""


def unpacked(name: str, stream: str, bits: str, shape: str) -> str:
    """ONNX text after GROUPED's constants: uint8 `name` of `shape` from a stream of `bits` [1] bits each."""
    text = _UNPACK.replace("STREAM", stream).replace("BITS", bits).replace("SHAPE", shape)
    return text.replace("NAME", name)


def function_text(domain: str, opset: int, head: str, *parts: str) -> str:
    """The text of a function whose signature is `head` and whose body are `parts`."""
    return f'<domain: "{domain}", opset_import: ["" : {opset}]>\n{head}\n{{\n{"".join(parts)}}}\n'


def narrowed(scale: Array) -> Array:
    """In float16 where that holds every one exactly, else in float32."""
    half, single = scale.astype(np.float16), scale.astype(np.float32)
    return half if np.array_equal(half.astype(np.float32), single) else single


@dataclass(frozen=True)
class CodeForm:
    """Sizes of a weight of `shape` whose codes have `bits`, in groups of `group` inputs."""

    shape: tuple[int, ...]
    bits: int
    group: int

    @property
    def outputs(self) -> int:
        """O."""
        return self.shape[0]

    @property
    def inputs(self) -> int:
        """K."""
        return prod(self.shape[1:])

    @property
    def across(self) -> int:
        """Groups of one output."""
        return -(-self.inputs // self.group)

    @property
    def own(self) -> npt.NDArray[np.int64]:
        """The group of each input, [K]."""
        found: npt.NDArray[np.int64] = np.arange(self.inputs) // self.group
        return found

    def numbers(self, stream: Array, bits: int, columns: int) -> npt.NDArray[np.uint8]:
        """A checked stream as uint8 [O, columns]."""
        return unpack_bits(stream, bits, self.outputs * columns).reshape(self.outputs, columns)


def check_kinds(
    what: str, parts: Mapping[str, Array], kinds: Mapping[str, tuple[Sequence[str], int]]
) -> None:
    """Raises ModelError where a part is not of its types and rank, is empty, or holds no finite numbers."""
    for name, (types, rank) in kinds.items():
        part = parts[name]
        if part.dtype.name not in types or part.ndim != rank or part.size == 0:
            raise ModelError(
                f"the part {name} of {what} is malformed",
                expected=f"{' or '.join(types)} of rank {rank} with elements",
                got=f"{part.dtype} {list(part.shape)}",
            )
        if part.dtype.kind == "f" and not np.isfinite(part).all():
            raise ModelError(f"the part {name} of {what} is malformed", expected="finite numbers")


def check_sizes(
    what: str, parts: Mapping[str, Array], form: CodeForm, streams: Mapping[str, tuple[int, int]]
) -> None:
    """Raises ModelError where sizes are not positive or too large, or a stream has another length.

    `streams` are bits and columns of each, all in rows of O.
    """
    if min(form.shape, default=0) < 1 or not 1 <= form.bits <= 8 or form.group < 1:
        raise ModelError(
            f"the shape or form of {what} is malformed",
            expected="positive sizes, 1 to 8 bits, groups of one input or more",
            got=f"{list(form.shape)}, {form.bits} bits, groups of {form.group}",
        )
    if 4 * prod(form.shape) > _LIMIT:
        raise ModelError(f"{what} decodes to too much", expected=f"{_LIMIT} bytes", got=list(form.shape))
    for name, (bits, columns) in streams.items():
        wanted = packed_bytes(form.outputs * columns, bits)
        if parts[name].size != wanted:
            raise ModelError(
                f"the part {name} of {what} has the wrong size",
                expected=f"{wanted} bytes",
                got=parts[name].size,
            )
