"""Grids of tiny groups of weights: scales and zeros, rounded to a few bits in turn (SpQR, arXiv:2306.03078).

    weight ~ scale * (code - zero)      0 <= code < 2 ** bits

Scales of `rows` consecutive outputs share a step and a least value, and zeros likewise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Codes", "Float", "Group", "GroupForm", "fit_group", "quantize_codes", "scale_unit"]

Float = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class GroupForm:
    """`bits` of a weight, `group` inputs that share a scale and a zero, bits of these, `rows` that share a
    grid of them."""

    bits: int = 3
    group: int = 16
    scale_bits: int = 3
    zero_bits: int = 3
    rows: int = 16

    def groups(self, inputs: int) -> int:
        """Groups across a matrix of so many inputs."""
        return -(-inputs // self.group)

    @property
    def is_sensible(self) -> bool:
        """Whether numbers have 1 to 8 bits, and groups members."""
        widths = (self.bits, self.scale_bits, self.zero_bits)
        return all(1 <= bits <= 8 for bits in widths) and self.group >= 1 and self.rows >= 1

    @property
    def bits_per_weight(self) -> float:
        """By the formula: of sizes that the groups divide."""
        stats = (self.scale_bits + self.zero_bits) / self.group
        return self.bits + stats + 64 / (self.group * self.rows)


@dataclass(frozen=True)
class Group:
    """One group of inputs for all outputs: numbers of scales and zeros [O], their grids float16 [4, ...], and
    what they decode to: float32 [O]."""

    scales: Codes
    zeros: Codes
    grids: npt.NDArray[np.float16]
    scale: Float
    zero: Float


def scale_unit(matrix: Float) -> np.float32:
    """A power of two near the largest weight, or 1."""
    most = float(np.abs(matrix).max())
    return np.float32(2.0 ** np.clip(np.floor(np.log2(most)), -100, 100) if most > 0 else 1.0)


def fit_group(block: Float, kept: npt.NDArray[np.bool_], form: GroupForm, unit: np.float32) -> Group:
    """Scales and zeros for the weights [O, up to B1] of one group of inputs; those not `kept` do not count.

    The range of a group always holds zero, so that zeros lie between 0 and 2 ** n - 1.
    """
    levels = 2**form.bits - 1
    low = np.where(kept, block, 0).min(axis=1, initial=0)
    high = np.where(kept, block, 0).max(axis=1, initial=0)
    scales, scale_grid, scale = _quantized((high - low) / (levels * unit), form.scale_bits, form.rows)
    scale = scale * unit
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = np.where(scale > 0, -low / scale, 0)
    zeros, zero_grid, zero = _quantized(np.clip(wanted, 0, levels), form.zero_bits, form.rows)
    return Group(scales, zeros, np.concatenate([scale_grid, zero_grid]), scale, zero)


def _quantized(values: Float, bits: int, rows: int) -> tuple[Codes, npt.NDArray[np.float16], Float]:
    """Numbers [O], step and least value float16 [2, ceil(O / rows)], and what they decode to [O]."""
    starts = np.arange(0, len(values), rows)
    row = np.arange(len(values)) // rows
    least = np.minimum.reduceat(values, starts).astype(np.float16)
    most = np.maximum.reduceat(values, starts)
    step = ((most - least.astype(np.float32)) / (2**bits - 1)).astype(np.float16)
    own_step, own_least = step.astype(np.float32)[row], least.astype(np.float32)[row]
    with np.errstate(divide="ignore", invalid="ignore"):
        number = np.where(own_step > 0, np.rint((values - own_least) / own_step), 0)
    codes = np.clip(number, 0, 2**bits - 1).astype(np.uint8)
    return codes, np.stack([step, least]), own_step * codes.astype(np.float32) + own_least


def quantize_codes(block: Float, group: Group, form: GroupForm) -> Codes:
    """The numbers of weights [O, columns] of a group that decode nearest to them."""
    with np.errstate(divide="ignore", invalid="ignore"):
        number = np.rint(block / group.scale[:, None] + group.zero[:, None])
    number = np.where(group.scale[:, None] > 0, number, 0)
    return np.clip(number, 0, 2**form.bits - 1).astype(np.uint8)
