"""Reads vectors of window positions from padded planes; a vector may run over several rows."""

from __future__ import annotations

from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32
from .planes import PlaneLayout

__all__ = ["PlaneReader"]


class PlaneReader:
    """One vector of positions from `first` (counted row by row over the layout's window)."""

    def __init__(self, b: Builder, layout: PlaneLayout, first: Any) -> None:
        lanes, width = b.isa.lanes, layout.window.out_size[1]
        self.lanes = lanes
        x = b.let(tir.truncmod(first, int32(width)))
        self._base = b.let(tir.truncdiv(first, int32(width)) * layout.pixel_row + x)
        self._step = layout.pixel_row - width
        crossings = 0 if width % lanes == 0 else -(-(lanes - 1) // width)
        ramp = tir.Ramp(int32(0), int32(1), lanes)
        # not named by `let`: TVM's simplifier refuses to bind vectors of booleans; LLVM hoists them
        self._masks = [tir.GE(ramp + x, constant(i * width, "int32", lanes)) for i in range(1, crossings + 1)]

    def read(self, source: Pointer, plane: Any) -> Any:
        """The vector at one tap: `plane` is the plane's offset plus the tap's."""
        value = source.load(plane + self._base, self.lanes)
        for i, mask in enumerate(self._masks, 1):
            other = source.load(plane + (self._base + i * self._step), self.lanes)
            value = tir.Select(mask, other, value)
        return value
