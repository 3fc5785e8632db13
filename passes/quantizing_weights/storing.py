"""How a rounded weight is stored: by a standard DequantizeLinear, or by a format of ours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from gossamer.kernels.code_groups import CodeForm
from gossamer.kernels.formats.group_float4 import VALUES, GroupFloat4, pack_group_float4
from gossamer.kernels.formats.group_int import GroupInt, pack_group_int

from ..layers import Layer
from ..storing import Stored, store_weight
from .grids import IntegerGrid, MinifloatGrid
from .grouping import Quantized
from .linear import Linear, dual_grain_parts, linear_parts, store_linear
from .powers import LARGEST_SHIFT, output_scale

__all__ = ["Storage", "storage"]


@dataclass(frozen=True)
class Storage:
    """A weight as it will be stored: by DequantizeLinear, by a format, or by one behind the other."""

    linear: Linear | None
    stored: Stored | None
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.nbytes for part in (self.linear, self.stored) if part is not None)

    def write(self, model: ir.Model, layer: Layer) -> None:
        """Replace the weight of `layer`, for all its readers."""
        if self.linear is not None:
            store_linear(model, layer, self.linear, self.stored)
            return
        assert self.stored is not None
        store_weight(model, layer, self.stored, self.shape)


def storage(layer: Layer, found: Quantized) -> Storage:
    """DequantizeLinear where opset 21 has a type for the numbers and onnxruntime a kernel, else a format."""
    if found.channel is not None:
        stored, linear = dual_grain_parts(layer, found)
        return Storage(linear, stored, found.shape)
    if isinstance(found.grid, IntegerGrid) and found.grid.bits < 4:
        return Storage(None, Stored("group-int", _integers(found)), found.shape)
    if isinstance(found.grid, MinifloatGrid) and found.grid.bits == 4:
        return Storage(None, Stored("group-float4", _floats(found)), found.shape)
    return Storage(linear_parts(layer, found), None, found.shape)


def _integers(found: Quantized) -> dict[str, np.ndarray]:
    form = CodeForm(found.shape, found.grid.bits, found.group)
    lift = -found.grid.low if isinstance(found.grid, IntegerGrid) else 0  # signed codes, stored unsigned
    return pack_group_int(
        GroupInt(
            form,
            (found.codes + lift).astype(np.uint8),
            found.ranges.scale.astype(np.float32),
            (found.ranges.zero + lift).astype(np.uint8),
        )
    )


def _floats(found: Quantized) -> dict[str, np.ndarray]:
    form = CodeForm(found.shape, 4, found.group)
    codes = np.abs(found.numbers[..., None].astype(np.float32) - VALUES).argmin(axis=-1).astype(np.uint8)
    scale = output_scale(found.ranges.scale)
    shift = np.log2(scale / found.ranges.scale)
    if not (shift == np.rint(shift)).all() or float(shift.max()) > LARGEST_SHIFT:
        scale, shift = found.ranges.scale, np.zeros_like(shift)
    return pack_group_float4(GroupFloat4(form, codes, scale.astype(np.float32), shift.astype(np.uint8)))
