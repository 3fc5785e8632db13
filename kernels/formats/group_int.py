"""Integers of n = 1 to 8 bits in groups that share a scale and a zero point.

A weight of any rank is a matrix [O, K]: the first axis (outputs) times all the others. A group is G
consecutive inputs of one output; the last one may have fewer.

    quantized    uint8 [ceil(O * K * n / 8)]               codes q in the order [O, K], packed as
                                                           kernels/bit_packing.py tells
    scale        float16 or float32 [O, ceil(K / G)]       s
    zero         uint8 [ceil(O * ceil(K / G) * n / 8)]     zero points z, packed alike
    shape        int64 [rank]                              the shape of the weight
    form         int64 [2]                                 n and G

    W[o, k] = s[o, k / G] * (q[o, k] - z[o, k / G]), in float32

For the widths that ONNX has no type for at opset 21: 2 and 3 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gossamer.runtime.errors import ModelError, OptionError

from ..bit_packing import pack_bits
from ..code_groups import GROUPED, CodeForm, check_kinds, check_sizes, function_text, narrowed, unpacked
from .base import DOMAIN, FUNCTION_OPSET, Array, Format, require_finite_float32

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["GroupInt", "pack_group_int", "parse_group_int"]

_WHAT = "a weight of grouped integers"
_KINDS = {
    "quantized": (("uint8",), 1),
    "scale": (("float16", "float32"), 2),
    "zero": (("uint8",), 1),
    "shape": (("int64",), 1),
    "form": (("int64",), 1),
}
_FORM = """
    form_one = Constant <value_ints = [1]> ()
    form_none = Constant <value_ints = [0]> ()
    form_two = Constant <value_ints = [2]> ()
    n = Slice (form, form_none, form_one)
    group = Slice (form, form_one, form_two)
"""
_DECODE = """
    zero_f = Cast <to = 1> (zeros)
    zero_all = Gather <axis = 1> (zero_f, own)
    scale_f = Cast <to = 1> (scale)
    scale_all = Gather <axis = 1> (scale_f, own)
    codes_f = Cast <to = 1> (codes)
    centred = Sub (codes_f, zero_all)
    matrix = Mul (scale_all, centred)
    W = Reshape (matrix, shape)
"""


@dataclass(frozen=True)
class GroupInt:
    """A stored weight, checked and unpacked: `codes` uint8 [O, K]; `scale` float32 and `zero` uint8 [O,
    groups]."""

    form: CodeForm
    codes: npt.NDArray[np.uint8]
    scale: npt.NDArray[np.float32]
    zero: npt.NDArray[np.uint8]

    def decode(self) -> Array:
        """The weight: float32, of the form's shape."""
        own = self.form.own
        centred = self.codes.astype(np.float32) - self.zero.astype(np.float32)[:, own]
        found: Array = self.scale[:, own] * centred
        return found.reshape(self.form.shape)


class GroupIntFormat(Format):
    """Integers of 1 to 8 bits in groups of inputs."""

    name = "group-int"
    operator = "GroupIntDecode"
    parts = ("quantized", "scale", "zero", "shape", "form")
    summary = "integers of 1 to 8 bits, each exactly that wide, with a scale and a zero point for each group"

    def encode(self, array: Array, *, bits: int = 3, group: int = 32, **options: Any) -> dict[str, Array]:
        """Round `array`, float32 of rank >= 2; scale and zero point span a group's weights, and 0.

        >>> parts = GroupIntFormat().encode(np.array([[0, 1, 2, 3]], np.float32), bits=2, group=4)
        >>> parts["quantized"].tolist(), parts["scale"].tolist()
        ([228], [[1.0]])
        """
        if options or not 1 <= bits <= 8 or group < 1:
            raise OptionError(
                "these options do not fit group-int",
                expected="bits of 1 to 8, group of 1 or more",
                got=f"bits={bits}, group={group}, {', '.join(sorted(options))}",
            )
        require_finite_float32("group-int", array)
        form = CodeForm(array.shape, bits, group)
        matrix = array.reshape(form.outputs, -1)
        padded = np.pad(matrix, ((0, 0), (0, -form.inputs % group)))
        blocks = padded.reshape(form.outputs, form.across, group)
        low, high = np.minimum(blocks.min(axis=2), 0), np.maximum(blocks.max(axis=2), 0)
        most = 2**bits - 1
        scale = np.where(high > low, (high - low) / np.float32(most), np.float32(1)).astype(np.float32)
        zero = np.clip(np.rint(-low / scale), 0, most)
        codes = np.clip(np.rint(matrix / scale[:, form.own]) + zero[:, form.own], 0, most)
        return pack_group_int(GroupInt(form, codes.astype(np.uint8), scale, zero.astype(np.uint8)))

    def decode(self, parts: Mapping[str, Array]) -> Array:
        """The weight: float32, of the stored shape."""
        return parse_group_int(parts).decode()

    def function(self, opset: int = FUNCTION_OPSET) -> ir.Function:
        """`GroupIntDecode(quantized, scale, zero, shape, form) -> W`; the same since opset 18."""
        import onnx
        import onnx_ir

        head = "GroupIntDecode (quantized, scale, zero, shape, form) => (W)"
        codes = unpacked("codes", "quantized", "n", "matrix_shape")
        zeros = unpacked("zeros", "zero", "n", "groups_shape")
        text = function_text(DOMAIN, opset, head, _FORM, GROUPED, codes, zeros, _DECODE)
        return onnx_ir.serde.deserialize_function(onnx.parser.parse_function(text))


def pack_group_int(weight: GroupInt) -> dict[str, Array]:
    """The parts of a weight; scales are stored in float16 where it holds every one exactly."""
    form = weight.form
    return {
        "quantized": pack_bits(weight.codes, form.bits),
        "scale": narrowed(weight.scale),
        "zero": pack_bits(weight.zero, form.bits),
        "shape": np.array(form.shape, np.int64),
        "form": np.array([form.bits, form.group], np.int64),
    }


def parse_group_int(parts: Mapping[str, Array]) -> GroupInt:
    """The stored weight, its parts checked against each other. Raises ModelError where they do not fit."""
    check_kinds(_WHAT, parts, _KINDS)
    if len(parts["form"]) != 2:
        raise ModelError(f"the form of {_WHAT} is malformed", expected="2 numbers", got=len(parts["form"]))
    bits, group = (int(number) for number in parts["form"])
    form = CodeForm(tuple(int(size) for size in parts["shape"]), bits, group)
    check_sizes(_WHAT, parts, form, {})
    check_sizes(_WHAT, parts, form, {"quantized": (bits, form.inputs), "zero": (bits, form.across)})
    if parts["scale"].shape != (form.outputs, form.across):
        raise ModelError(
            f"the part scale of {_WHAT} has the wrong shape",
            expected=[form.outputs, form.across],
            got=list(parts["scale"].shape),
        )
    codes = form.numbers(parts["quantized"], bits, form.inputs)
    zero = form.numbers(parts["zero"], bits, form.across)
    return GroupInt(form, codes, parts["scale"].astype(np.float32), zero)
