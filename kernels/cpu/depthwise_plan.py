"""How a depthwise convolution of integers is cut into blocks and tiles, and its weights packed for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .pixel_layout import pixel_pitch
from .tap_dot import VECTORS, TapDot
from .window import Window

__all__ = ["DepthwisePlan"]

Array = npt.NDArray[Any]
_MOST_COLUMNS = 2  # of a tile: more were slower on Zen 4


@dataclass(frozen=True)
class DepthwisePlan:
    """How a window is cut: blocks of `rows` output rows, whose input rows form groups of `dot.depth`."""

    window: Window
    dot: TapDot
    rows: int

    @cached_property
    def needed(self) -> list[int]:
        """Input rows of a block, counted from its first."""
        w = self.window
        taps = range(0, w.kernel[0] * w.dilations[0], w.dilations[0])
        return sorted({r * w.strides[0] + tap for r in range(self.rows) for tap in taps})

    @cached_property
    def groups(self) -> list[list[int]]:
        """The rows that are interleaved; the last group may be short."""
        depth = self.dot.depth
        return [self.needed[i : i + depth] for i in range(0, len(self.needed), depth)]

    @cached_property
    def products(self) -> list[tuple[int, int]]:
        """(output row, group) with a tap in common."""
        return [
            (r, g)
            for r in range(self.rows)
            for g, group in enumerate(self.groups)
            if any(self._tap(r, row) is not None for row in group)
        ]

    def _tap(self, r: int, row: int) -> int | None:
        """The window row that output row `r` multiplies with input row `row`."""
        tap, rest = divmod(row - r * self.window.strides[0], self.window.dilations[0])
        return tap if rest == 0 and 0 <= tap < self.window.kernel[0] else None

    @property
    def columns(self) -> int:
        """Columns of a padded row that windows reach."""
        w = self.window
        return (w.out_size[1] - 1) * w.strides[1] + (w.kernel[1] - 1) * w.dilations[1] + 1

    def starts(self, channels: int) -> list[int]:
        """First channels of units; the last one ends with the pixel, so two may overlap."""
        pitch, unit = pixel_pitch(channels), self.dot.unit
        return [min(start, pitch - unit) for start in range(0, pitch, unit)]

    def spread(self, row: Array) -> Array:
        """One value per channel as units have them, their channels in order."""
        padded = np.zeros(pixel_pitch(len(row)), row.dtype)
        padded[: len(row)] = row
        return np.concatenate([padded[s : s + self.dot.unit] for s in self.starts(len(row))])

    def ordered(self, row: Array) -> Array:
        """One value per channel in the order of sums."""
        return self.spread(row).reshape(-1, self.dot.unit)[:, self.dot.order().reshape(-1)].reshape(-1)

    def pack(self, weights: Array) -> Array:
        """Weights (channels, kh, kw) as [unit][window column][product][weights of a unit]."""
        channels, height, width = weights.shape
        spread = np.stack([self.spread(tap) for tap in weights.reshape(channels, -1).T])
        units = spread.reshape(height, width, -1, self.dot.unit).transpose(
            2, 1, 0, 3
        )  # unit, kx, ky, channel
        result = np.zeros((len(units), width, len(self.products), self.dot.depth, self.dot.unit), np.int32)
        for p, (r, g) in enumerate(self.products):
            for d, row in enumerate(self.groups[g]):
                tap = self._tap(r, row)
                if tap is not None:
                    result[:, :, p, d] = units[:, :, tap]
        return self.dot.pack(result)

    @property
    def cost(self) -> float:
        """Instructions for one unit of an output pixel, roughly: products, loads of weights, interleaving."""
        w, dot = self.window, self.dot
        height = w.out_size[0]
        waste = -(-height // self.rows) * self.rows / height
        products = len(self.products) * w.kernel[1] * VECTORS
        joining = len(self.groups) * 3 * dot.depth * w.strides[1]
        return waste * (products * (1 + 1 / self.tile_columns) + joining) / self.rows

    @property
    def tile_columns(self) -> int:
        """Output columns of a tile: accumulators fill half of the registers, the last tile is not wasted."""
        width = self.window.out_size[1]
        most = max(1, min(_MOST_COLUMNS, self.dot.isa.registers // 2 // (self.rows * VECTORS)))
        return -(-width // -(-width // most))

    @classmethod
    def best(cls, window: Window, dot: TapDot) -> DepthwisePlan:
        """The cheapest number of rows whose accumulators fit in registers."""
        most = min(window.out_size[0], max(1, dot.isa.registers // 2 // VECTORS))
        return min((cls(window, dot, rows) for rows in range(1, most + 1)), key=lambda plan: plan.cost)
