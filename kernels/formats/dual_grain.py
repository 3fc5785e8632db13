"""Integers of 4 bits in groups whose scales are integers too: together integers of 8 bits.

A weight of any rank is a matrix [O, K]: the first axis (outputs) times all the others. A group is G
consecutive inputs of one output; the last one may have fewer.

    quantized    uint8 [ceil(O * K / 2)]               codes q in the order [O, K], low half first
    scale        int8 [O, ceil(K / G)]                 s, 1 to 127
    zero         uint8 [ceil(O * ceil(K / G) / 2)]     zero points z of 4 bits, packed alike
    shape        int64 [rank]                          the shape of the weight
    form         int64 [1]                             G

    W[o, k] = s[o, k / G] * (q[o, k] - z[o, k / G]), int8, of at most 127 in magnitude

A DequantizeLinear with a float scale for each output follows, so that a product with int8 activations is one
of integers over all inputs (DGQ, Zhang et al. 2023, arXiv:2310.04836).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gossamer.runtime.errors import ModelError, OptionError

from ..bit_packing import pack_bits
from ..code_groups import GROUPED, CodeForm, check_kinds, check_sizes, function_text, unpacked
from .base import DOMAIN, FUNCTION_OPSET, Array, Format

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["MOST", "DualGrain", "pack_dual_grain", "parse_dual_grain"]

MOST = 127
"""The largest magnitude of a decoded weight."""
_WHAT = "a dual-grain weight"
_KINDS = {
    "quantized": (("uint8",), 1),
    "scale": (("int8",), 2),
    "zero": (("uint8",), 1),
    "shape": (("int64",), 1),
    "form": (("int64",), 1),
}
_FORM = """
    group = Identity (form)
    n = Constant <value_ints = [4]> ()
"""
_DECODE = """
    zero_i = Cast <to = 6> (zeros)
    zero_all = Gather <axis = 1> (zero_i, own)
    scale_i = Cast <to = 6> (scale)
    scale_all = Gather <axis = 1> (scale_i, own)
    codes_i = Cast <to = 6> (codes)
    centred = Sub (codes_i, zero_all)
    product = Mul (scale_all, centred)
    matrix = Cast <to = 3> (product)
    W = Reshape (matrix, shape)
"""


@dataclass(frozen=True)
class DualGrain:
    """A stored weight, unpacked: `codes` uint8 [O, K]; `scale` int8 and `zero` uint8 [O, groups]."""

    form: CodeForm
    codes: npt.NDArray[np.uint8]
    scale: npt.NDArray[np.int8]
    zero: npt.NDArray[np.uint8]

    def wide(self) -> npt.NDArray[np.int32]:
        """The weight as int32 [O, K]."""
        scale, zero = (part.astype(np.int32)[:, self.form.own] for part in (self.scale, self.zero))
        found: npt.NDArray[np.int32] = scale * (self.codes.astype(np.int32) - zero)
        return found

    def decode(self) -> Array:
        """The weight: int8, of the form's shape."""
        return self.wide().astype(np.int8).reshape(self.form.shape)


class DualGrainFormat(Format):
    """Integers of 4 bits, times an integer for each group, that are integers of 8 bits."""

    name = "dual-grain"
    operator = "DualGrainDecode"
    parts = ("quantized", "scale", "zero", "shape", "form")
    summary = "int4 codes in groups with int8 scales, which decode to int8"

    def encode(self, array: Array, *, group: int = 32, **options: Any) -> dict[str, Array]:
        """Round `array`, int8 of rank >= 2 and of magnitudes up to 127, to the nearest."""
        if options or group < 1:
            raise OptionError("these options do not fit dual-grain", expected="group of 1 or more", got=group)
        if array.dtype != np.int8 or array.ndim < 2 or array.size == 0 or int(array.min(initial=0)) < -MOST:
            raise OptionError(
                "dual-grain cannot store this array",
                expected="int8 of -127 to 127, of rank 2 or more with elements",
                got=f"{array.dtype} {list(array.shape)}",
            )
        form = CodeForm(array.shape, 4, group)
        matrix = array.reshape(form.outputs, -1).astype(np.int32)
        padded = np.pad(matrix, ((0, 0), (0, -form.inputs % group)))
        blocks = padded.reshape(form.outputs, form.across, group)
        low, high = np.minimum(blocks.min(axis=2), 0), np.maximum(blocks.max(axis=2), 0)
        scale = np.maximum(1, -(-(high - low) // 15))
        zero = np.clip(np.rint(-low / scale), 0, 15)
        wide_scale, wide_zero = scale[:, form.own], zero.astype(np.int32)[:, form.own]
        reach = MOST // wide_scale
        numbers = np.clip(np.rint(matrix / wide_scale), np.maximum(-reach, -wide_zero), reach)
        codes = np.clip(numbers + wide_zero, 0, 15)
        return pack_dual_grain(
            DualGrain(form, codes.astype(np.uint8), scale.astype(np.int8), zero.astype(np.uint8))
        )

    def decode(self, parts: Mapping[str, Array]) -> Array:
        """The weight: int8, of the stored shape."""
        return parse_dual_grain(parts).decode()

    def function(self, opset: int = FUNCTION_OPSET) -> ir.Function:
        """`DualGrainDecode(quantized, scale, zero, shape, form) -> W`; the same since opset 18."""
        import onnx
        import onnx_ir

        head = "DualGrainDecode (quantized, scale, zero, shape, form) => (W)"
        codes = unpacked("codes", "quantized", "n", "matrix_shape")
        zeros = unpacked("zeros", "zero", "n", "groups_shape")
        text = function_text(DOMAIN, opset, head, _FORM, GROUPED, codes, zeros, _DECODE)
        return onnx_ir.serde.deserialize_function(onnx.parser.parse_function(text))


def pack_dual_grain(weight: DualGrain) -> dict[str, Array]:
    """The parts of a weight, whose products are of at most 127 in magnitude."""
    assert int(np.abs(weight.wide()).max()) <= MOST
    return {
        "quantized": pack_bits(weight.codes, 4),
        "scale": np.ascontiguousarray(weight.scale),
        "zero": pack_bits(weight.zero, 4),
        "shape": np.array(weight.form.shape, np.int64),
        "form": np.array([weight.form.group], np.int64),
    }


def parse_dual_grain(parts: Mapping[str, Array]) -> DualGrain:
    """The stored weight, its parts checked against each other. Raises ModelError where they do not fit."""
    check_kinds(_WHAT, parts, _KINDS)
    if len(parts["form"]) != 1:
        raise ModelError(f"the form of {_WHAT} is malformed", expected="1 number", got=len(parts["form"]))
    form = CodeForm(tuple(int(size) for size in parts["shape"]), 4, int(parts["form"][0]))
    check_sizes(_WHAT, parts, form, {})
    check_sizes(_WHAT, parts, form, {"quantized": (4, form.inputs), "zero": (4, form.across)})
    scale = parts["scale"]
    if scale.shape != (form.outputs, form.across) or int(scale.min()) < 1:
        raise ModelError(
            f"the part scale of {_WHAT} is malformed",
            expected=f"[{form.outputs}, {form.across}] of 1 to 127",
            got=f"{list(scale.shape)}, the least is {int(scale.min())}",
        )
    codes = form.numbers(parts["quantized"], 4, form.inputs)
    found = DualGrain(form, codes, scale, form.numbers(parts["zero"], 4, form.across))
    if int(np.abs(found.wide()).max()) > MOST:
        raise ModelError(
            f"{_WHAT} does not fit int8", expected="magnitudes up to 127", got=int(np.abs(found.wide()).max())
        )
    return found
