"""Floats of 4 bits (E2M1) in groups that share a power of two, and a scale for each output or group.

A weight of any rank is a matrix [O, K]: the first axis (outputs) times all the others. A group is G
consecutive inputs of one output; the last one may have fewer.

    quantized    uint8 [ceil(O * K / 2)]               codes in the order [O, K], the low half of a byte first
    scale        float16 or float32 [O, 1] or [O, ceil(K / G)]
    shift        uint8 [ceil(O * ceil(K / G) / 2)]     numbers of 4 bits, packed alike
    shape        int64 [rank]                          the shape of the weight
    form         int64 [1]                             G

    W[o, k] = scale * 2 ^ -shift[o, k / G] * value(code), in float32

The values are 0, 0.5, 1, 1.5, 2, 3, 4 and 6, with the highest bit of the code for the sign. With one scale
for each output those of its groups are powers of two apart, so that a weight is a float8 times that scale
(ZeroQuant-FP, Wu, Yao and He 2023, arXiv:2307.09782, constraint M2).
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

__all__ = ["VALUES", "GroupFloat4", "pack_group_float4", "parse_group_float4"]

_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
VALUES = np.array([*_MAGNITUDES, 0.0, *(-value for value in _MAGNITUDES[1:])], np.float32)
"""Of the 16 codes; there is no negative zero."""
_WHAT = "a weight of grouped float4"
_KINDS = {
    "quantized": (("uint8",), 1),
    "scale": (("float16", "float32"), 2),
    "shift": (("uint8",), 1),
    "shape": (("int64",), 1),
    "form": (("int64",), 1),
}
_FORM = """
    group = Identity (form)
    n = Constant <value_ints = [4]> ()
"""
_DECODE = f"""
    table = Constant <value = float[16] {{{", ".join(f"{value}" for value in VALUES)}}}> ()
    powers = Constant <value = float[16] {{{", ".join(f"{2.0**-shift}" for shift in range(16))}}}> ()
    codes_i = Cast <to = 6> (codes)
    values = Gather (table, codes_i)
    shifts_i = Cast <to = 6> (shifts)
    factor = Gather (powers, shifts_i)
    scale_f = Cast <to = 1> (scale)
    scales = Mul (scale_f, factor)
    scale_all = Gather <axis = 1> (scales, own)
    matrix = Mul (scale_all, values)
    W = Reshape (matrix, shape)
"""


@dataclass(frozen=True)
class GroupFloat4:
    """A stored weight, checked and unpacked.

    `codes` uint8 [O, K]; `scale` float32 [O, 1] or [O, groups], `shift` uint8 [O, groups].
    """

    form: CodeForm
    codes: npt.NDArray[np.uint8]
    scale: npt.NDArray[np.float32]
    shift: npt.NDArray[np.uint8]

    @property
    def scales(self) -> npt.NDArray[np.float32]:
        """Of each group, float32 [O, groups]."""
        found: npt.NDArray[np.float32] = np.ldexp(self.scale, -self.shift.astype(np.int32))
        return found

    def decode(self) -> Array:
        """The weight: float32, of the form's shape."""
        found: Array = self.scales[:, self.form.own] * VALUES[self.codes]
        return found.reshape(self.form.shape)


class GroupFloat4Format(Format):
    """Floats of 4 bits in groups of inputs whose scales are powers of two apart."""

    name = "group-float4"
    operator = "GroupFloat4Decode"
    parts = ("quantized", "scale", "shift", "shape", "form")
    summary = "E2M1 floats of 4 bits, with a scale for each output and a power of two for each group"

    def encode(self, array: Array, *, group: int = 32, **options: Any) -> dict[str, Array]:
        """Round `array`, float32 of rank >= 2, to the nearest; nothing is clipped."""
        if options or group < 1:
            raise OptionError(
                "these options do not fit group-float4", expected="group of 1 or more", got=group
            )
        require_finite_float32("group-float4", array)
        form = CodeForm(array.shape, 4, group)
        matrix = array.reshape(form.outputs, -1)
        padded = np.abs(np.pad(matrix, ((0, 0), (0, -form.inputs % group))))
        most = padded.reshape(form.outputs, form.across, group).max(axis=2) / np.float32(6)
        scale = np.maximum(most.max(axis=1, keepdims=True), np.finfo(np.float32).tiny * 2.0**16)
        scale = scale.astype(np.float32)
        with np.errstate(divide="ignore"):
            shift = np.clip(np.floor(np.log2(scale / most)), 0, 15).astype(np.uint8)
        empty = GroupFloat4(form, np.zeros(matrix.shape, np.uint8), scale, shift)
        codes = (
            np.abs((matrix / empty.scales[:, form.own])[..., None] - VALUES).argmin(axis=-1).astype(np.uint8)
        )
        return pack_group_float4(GroupFloat4(form, codes, scale, shift))

    def decode(self, parts: Mapping[str, Array]) -> Array:
        """The weight: float32, of the stored shape."""
        return parse_group_float4(parts).decode()

    def function(self, opset: int = FUNCTION_OPSET) -> ir.Function:
        """`GroupFloat4Decode(quantized, scale, shift, shape, form) -> W`; the same since opset 18."""
        import onnx
        import onnx_ir

        head = "GroupFloat4Decode (quantized, scale, shift, shape, form) => (W)"
        codes = unpacked("codes", "quantized", "n", "matrix_shape")
        shifts = unpacked("shifts", "shift", "n", "groups_shape")
        text = function_text(DOMAIN, opset, head, _FORM, GROUPED, codes, shifts, _DECODE)
        return onnx_ir.serde.deserialize_function(onnx.parser.parse_function(text))


def pack_group_float4(weight: GroupFloat4) -> dict[str, Array]:
    """The parts of a weight; scales are stored in float16 where it holds every one exactly."""
    return {
        "quantized": pack_bits(weight.codes, 4),
        "scale": narrowed(weight.scale),
        "shift": pack_bits(weight.shift, 4),
        "shape": np.array(weight.form.shape, np.int64),
        "form": np.array([weight.form.group], np.int64),
    }


def parse_group_float4(parts: Mapping[str, Array]) -> GroupFloat4:
    """The stored weight, its parts checked against each other. Raises ModelError where they do not fit."""
    check_kinds(_WHAT, parts, _KINDS)
    if len(parts["form"]) != 1:
        raise ModelError(f"the form of {_WHAT} is malformed", expected="1 number", got=len(parts["form"]))
    form = CodeForm(tuple(int(size) for size in parts["shape"]), 4, int(parts["form"][0]))
    check_sizes(_WHAT, parts, form, {})
    check_sizes(_WHAT, parts, form, {"quantized": (4, form.inputs), "shift": (4, form.across)})
    if parts["scale"].shape not in ((form.outputs, form.across), (form.outputs, 1)):
        raise ModelError(
            f"the part scale of {_WHAT} has the wrong shape",
            expected=f"[{form.outputs}, 1 or {form.across}]",
            got=list(parts["scale"].shape),
        )
    codes = form.numbers(parts["quantized"], 4, form.inputs)
    shift = form.numbers(parts["shift"], 4, form.across)
    return GroupFloat4(form, codes, parts["scale"].astype(np.float32), shift)
