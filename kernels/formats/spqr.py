"""Tiny groups of n-bit weights, whose scales and zeros are stored in a few bits too (SpQR, arXiv:2306.03078).

A weight of any rank is seen as a matrix [O, K]: the first axis (outputs) times all the others. B1 consecutive
inputs of one output are a group with a scale and a zero; the scales (and the zeros) of B2 consecutive outputs
at one group of inputs share a grid. With G = ceil(K / B1):

    codes   uint8 [ceil(O * K * n / 8)]    numbers of n bits, packed as kernels/bit_packing.py tells
    scales  uint8 [ceil(O * G * ns / 8)]   numbers of ns bits, in the order [O, G]
    zeros   uint8 [ceil(O * G * nz / 8)]   numbers of nz bits, in the order [O, G]
    grids   float16 [4, ceil(O / B2), G]   step and least value of the scales, then of the zeros
    unit    float32 [1]                    what scales are multiples of: float16 has few small numbers
    shape   int64 [rank]                   the shape of the weight
    form    int64 [5]                      n, B1, ns, nz, B2

    scale[o, g] = (grids[0, o / B2, g] * scales[o, g] + grids[1, o / B2, g]) * unit
    zero[o, g] = grids[2, o / B2, g] * zeros[o, g] + grids[3, o / B2, g]
    W[o, k] = scale[o, k / B1] * (codes[o, k] - zero[o, k / B1])

all in float32. That takes n + (ns + nz) / B1 + 64 / (B1 * B2) bits for each weight. Weights that no grid
holds well are kept beside it by the format `outliers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from gossamer.runtime.errors import ModelError, OptionError

from ..bit_packing import pack_bits, packed_bytes, unpack_bits
from ..code_groups import unpacked
from ..group_grid import Codes, Float, Group, GroupForm, fit_group, quantize_codes, scale_unit
from .base import DECODED_LIMIT, DOMAIN, FUNCTION_OPSET, Array, Format, require_finite_float32

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Spqr", "SpqrFormat", "pack_spqr", "parse_spqr"]

_HEAD = """
<domain: "{domain}", opset_import: ["" : {opset}]>
SpqrDecode (codes, scales, zeros, grids, unit, shape, form) => (W)
{{
    none = Constant <value_ints = [0]> ()
    one = Constant <value_ints = [1]> ()
    two = Constant <value_ints = [2]> ()
    three = Constant <value_ints = [3]> ()
    four = Constant <value_ints = [4]> ()
    five = Constant <value_ints = [5]> ()
    eight = Constant <value_ints = [8]> ()
    end = Constant <value_ints = [9223372036854775807]> ()
    start = Constant <value_int = 0> ()
    step = Constant <value_int = 1> ()
    places = Constant <value_ints = [0, 1, 2, 3, 4, 5, 6, 7]> ()
    seven = Constant <value = uint8[1] {{7}}> ()
    bit = Constant <value = uint8[1] {{1}}> ()
    masks = Constant <value = uint8[9] {{0, 1, 3, 7, 15, 31, 63, 127, 255}}> ()

    n = Slice (form, none, one)
    group = Slice (form, one, two)
    ns = Slice (form, two, three)
    nz = Slice (form, three, four)
    rows = Slice (form, four, five)
    outputs = Slice (shape, none, one)
    inner = Slice (shape, one, end)
    inner_sizes = Concat <axis = 0> (one, inner)
    inputs = ReduceProd <keepdims = 1> (inner_sizes)
    groups = Shape <start = 2, end = 3> (grids)
    matrix_shape = Concat <axis = 0> (outputs, inputs)
    groups_shape = Concat <axis = 0> (outputs, groups)
"""
_TAIL = """
    q = Cast <to = 1> (q_codes)
    s = Cast <to = 1> (s_codes)
    z = Cast <to = 1> (z_codes)
    outputs_n = Squeeze (outputs, none)
    inputs_n = Squeeze (inputs, none)
    output = Range (start, outputs_n, step)
    row = Div (output, rows)
    input = Range (start, inputs_n, step)
    column = Div (input, group)
    float_grids = Cast <to = 1> (grids)
    own_grids = Gather <axis = 1> (float_grids, row)
    scale_step, scale_least, zero_step, zero_least = Split <axis = 0, num_outputs = 4> (own_grids)
    scale_steps = Mul (scale_step, s)
    scale_units = Add (scale_steps, scale_least)
    scale = Mul (scale_units, unit)
    zero_steps = Mul (zero_step, z)
    zero = Add (zero_steps, zero_least)
    wide_scale = Gather <axis = 2> (scale, column)
    wide_zero = Gather <axis = 2> (zero, column)
    centred = Sub (q, wide_zero)
    scaled = Mul (wide_scale, centred)
    W = Reshape (scaled, shape)
}}
"""
_FUNCTION = (
    _HEAD
    + unpacked("q_codes", "codes", "n", "matrix_shape")
    + unpacked("s_codes", "scales", "ns", "groups_shape")
    + unpacked("z_codes", "zeros", "nz", "groups_shape")
    + _TAIL
)


@dataclass(frozen=True)
class Spqr:
    """A stored weight, checked and unpacked; `codes` [O, K], `scales` and `zeros` [O, G] numbers, `grids`
    float32 [4, ceil(O / B2), G]."""

    shape: tuple[int, ...]
    form: GroupForm
    codes: Codes
    scales: Codes
    zeros: Codes
    grids: Float
    unit: np.float32

    def grid(self) -> tuple[Float, Float]:
        """Scale and zero of every group: float32 [O, G] each."""
        row = np.arange(self.shape[0]) // self.form.rows
        scale_step, scale_least, zero_step, zero_least = self.grids[:, row]
        scale = (scale_step * self.scales.astype(np.float32) + scale_least) * self.unit
        return scale, zero_step * self.zeros.astype(np.float32) + zero_least

    def decode(self) -> Array:
        """The weight: float32, of its shape."""
        scale, zero = self.grid()
        column = np.arange(self.codes.shape[1]) // self.form.group
        centred = self.codes.astype(np.float32) - zero[:, column]
        decoded: Array = (scale[:, column] * centred).reshape(self.shape)
        return decoded


class SpqrFormat(Format):
    """Groups of a few weights in 1 to 8 bits, with scales and zeros of a few bits."""

    name = "spqr"
    operator = "SpqrDecode"
    parts = ("codes", "scales", "zeros", "grids", "unit", "shape", "form")
    summary = "weights of 1 to 8 bits in tiny groups, whose scales and zeros take a few bits each"

    def encode(self, array: Array, **options: Any) -> dict[str, Array]:
        """Round `array` (float32, rank >= 2) to the nearest; options are the fields of `GroupForm`.

        >>> parts = SpqrFormat().encode(np.eye(4, dtype=np.float32), bits=1, group=2, rows=2)
        >>> SpqrFormat().decode(parts).tolist()[0]
        [1.0, 0.0, 0.0, 0.0]
        """
        if wrong := set(options) - set(GroupForm.__dataclass_fields__):
            raise OptionError(
                "unknown option of spqr",
                expected=", ".join(GroupForm.__dataclass_fields__),
                got=", ".join(sorted(wrong)),
            )
        form = GroupForm(**options)
        _check_encodable(array, form)
        matrix = array.reshape(len(array), -1)
        unit = scale_unit(matrix)
        groups = []
        for first in range(0, matrix.shape[1], form.group):
            block = matrix[:, first : first + form.group]
            group = fit_group(block, np.ones(block.shape, bool), form, unit)
            groups.append((quantize_codes(block, group, form), group))
        return pack_spqr(array.shape, form, unit, groups)

    def decode(self, parts: Mapping[str, Array]) -> Array:
        """The weight: float32, of the stored shape."""
        return parse_spqr(parts).decode()

    def function(self, opset: int = FUNCTION_OPSET) -> ir.Function:
        """`SpqrDecode(codes, scales, zeros, grids, unit, shape, form) -> W`, the same since opset 18."""
        import onnx
        import onnx_ir

        text = _FUNCTION.format(domain=DOMAIN, opset=opset)
        return onnx_ir.serde.deserialize_function(onnx.parser.parse_function(text))


def pack_spqr(
    shape: tuple[int, ...], form: GroupForm, unit: np.float32, groups: list[tuple[Codes, Group]]
) -> dict[str, Array]:
    """The parts of a weight from the codes [O, up to B1] and the grid of each group of inputs."""
    codes = np.concatenate([codes for codes, _ in groups], axis=1)
    return {
        "codes": pack_bits(codes, form.bits),
        "scales": pack_bits(np.stack([group.scales for _, group in groups], axis=1), form.scale_bits),
        "zeros": pack_bits(np.stack([group.zeros for _, group in groups], axis=1), form.zero_bits),
        "grids": np.stack([group.grids for _, group in groups], axis=2),
        "unit": np.array([unit], np.float32),
        "shape": np.array(shape, np.int64),
        "form": np.array([form.bits, form.group, form.scale_bits, form.zero_bits, form.rows], np.int64),
    }


def parse_spqr(parts: Mapping[str, Array]) -> Spqr:
    """The stored weight, its parts checked against each other. Raises ModelError where they do not fit."""
    _check_kinds(parts)
    shape = tuple(int(size) for size in parts["shape"])
    form = GroupForm(*(int(number) for number in parts["form"]))
    if not form.is_sensible:
        raise ModelError(
            "the form of an spqr weight is malformed",
            expected="1 to 8 bits, groups and rows of at least 1",
            got=parts["form"].tolist(),
        )
    if 4 * prod(shape) > DECODED_LIMIT:
        raise ModelError("an spqr weight decodes to too much", expected=f"{DECODED_LIMIT} bytes", got=shape)
    outputs, inputs = shape[0], prod(shape[1:])
    groups = form.groups(inputs)
    wanted = {
        "codes": (packed_bytes(outputs * inputs, form.bits),),
        "scales": (packed_bytes(outputs * groups, form.scale_bits),),
        "zeros": (packed_bytes(outputs * groups, form.zero_bits),),
        "grids": (4, -(-outputs // form.rows), groups),
        "unit": (1,),
    }
    for name, size in wanted.items():
        if parts[name].shape != size:
            raise ModelError(
                f"the {name} of an spqr weight have the wrong shape",
                expected=list(size),
                got=list(parts[name].shape),
            )
    return Spqr(
        shape,
        form,
        unpack_bits(parts["codes"], form.bits, outputs * inputs).reshape(outputs, inputs),
        unpack_bits(parts["scales"], form.scale_bits, outputs * groups).reshape(outputs, groups),
        unpack_bits(parts["zeros"], form.zero_bits, outputs * groups).reshape(outputs, groups),
        parts["grids"].astype(np.float32),
        parts["unit"][0],
    )


def _check_encodable(array: Array, form: GroupForm) -> None:
    if not form.is_sensible:
        raise OptionError("spqr has no such form", expected="1 to 8 bits, groups and rows from 1", got=form)
    require_finite_float32("spqr", array)


def _check_kinds(parts: Mapping[str, Array]) -> None:
    kinds = {
        "codes": (np.uint8, 1),
        "scales": (np.uint8, 1),
        "zeros": (np.uint8, 1),
        "grids": (np.float16, 3),
        "unit": (np.float32, 1),
        "shape": (np.int64, 1),
        "form": (np.int64, 1),
    }
    for name, (kind, rank) in kinds.items():
        if parts[name].dtype != kind or parts[name].ndim != rank:
            raise ModelError(
                f"the {name} of an spqr weight are malformed",
                expected=f"{np.dtype(kind)} of rank {rank}",
                got=f"{parts[name].dtype} {list(parts[name].shape)}",
            )
    if len(parts["shape"]) < 2 or (parts["shape"] < 1).any() or len(parts["form"]) != 5:
        raise ModelError(
            "the shape or form of an spqr weight is malformed",
            expected="two positive sizes or more, and five numbers",
            got=f"{parts['shape'].tolist()}, {parts['form'].tolist()}",
        )
