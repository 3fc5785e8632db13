"""When a 3 × 3 convolution is computed by Winograd's transforms, and with which tile."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..cpu.isa import Isa
from ..cpu.pixel_tile import best_pixel_tile, tile_time
from ..cpu.register_tile import fits
from ..cpu.window import Window
from ..cpu.winograd import tile_window
from ..cpu.winograd_transform import TRANSFORMS

__all__ = ["WORTH", "Plan", "pack_taps", "plan_winograd", "winograd_plans"]

# instructions of the transforms by m: a vector of inputs, of weights, of products, and a tile stored
_COSTS = {2: (70, 55, 50, 10), 4: (260, 175, 170, 20)}
WORTH = 0.85  # of the direct sum's time: a smaller gain is not worth the rounding errors
_FEWEST = 16  # channels, below which transforms are not shared enough


@dataclass(frozen=True)
class Plan:
    """F(m × m, 3 × 3) with a tile of (rows, vectors); `time` as a share of the direct sum's.

    Transformed inputs of `block_tiles` and transformed weights of `chunk` channels are kept in cache.
    """

    outputs: int
    tile: tuple[int, int]
    block_tiles: int
    chunk: int
    time: float


def plan_winograd(isa: Isa, window: Window, channels: int, rows: int, groups: int) -> Plan | None:
    """The best plan for a convolution of `channels` to `rows`, None where the direct sum is better."""
    plans = winograd_plans(isa, window, channels, rows, groups)
    return plans[0] if plans and plans[0].time < WORTH else None


def winograd_plans(isa: Isa, window: Window, channels: int, rows: int, groups: int) -> list[Plan]:
    """Every plan for a convolution of `channels` to `rows`, by estimated time."""
    plain = window.kernel == (3, 3) and window.strides == window.dilations == (1, 1) and groups == 1
    if not plain or min(channels, rows) < _FEWEST:
        return []
    direct = channels * 9 * tile_time(isa, rows, window.pixels, best_pixel_tile(isa, rows, window.pixels))
    plans = []
    for outputs in TRANSFORMS:
        for height in (h for h in (4, 8, 16, 32) if h <= rows and fits(isa, h, 1)):
            plan = _plan(isa, tile_window(window, outputs).pixels, channels, rows, outputs, height)
            plans.append(replace(plan, time=plan.time / direct))
    return sorted(plans, key=lambda plan: plan.time)


def _plan(isa: Isa, tiles: int, channels: int, rows: int, outputs: int, height: int) -> Plan:
    """The plan with row blocks of `height`; its time in cycles, roughly."""
    products, lanes = TRANSFORMS[outputs].products, isa.lanes
    cache = isa.target.l2_bytes // (4 * products)
    block = min(tiles, max(lanes, cache * 6 // 10 // channels // lanes * lanes))
    chunk = min(channels, max(8, cache // 8 // height))
    tile = best_pixel_tile(isa, height, block, height)
    blocks, turns, vectors = -(-rows // height), -(-tiles // block), -(-tiles // lanes)
    inputs, weights, pixels, store = _COSTS[outputs]
    time = (
        channels * products * turns * tile_time(isa, blocks * height, block, tile)
        + channels * vectors * inputs
        + channels * blocks * -(-height // lanes) * turns * weights
        + rows * (vectors * pixels + tiles * store)
    )
    return Plan(outputs, tile, block, chunk, time)


def pack_taps(weights: np.ndarray, rows: int) -> np.ndarray:
    """(M, C, 3, 3) → (blocks of `rows`, C, 9, rows), zero-padded."""
    count, channels = weights.shape[:2]
    padded = np.zeros((-(-count // rows) * rows, channels, 9), np.float32)
    padded[:count] = weights.reshape(count, channels, 9)
    return np.ascontiguousarray(padded.reshape(-1, rows, channels, 9).transpose(0, 2, 3, 1))
