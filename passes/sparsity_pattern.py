"""Which weights may become zero together: single ones, R x C blocks, or all but N of M."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import prod

import numpy as np

from gossamer.kernels.formats.base import Array
from gossamer.runtime.errors import OptionError

__all__ = ["BlockPattern", "GroupPattern", "Pattern", "parse_pattern"]

_LARGEST = 64


@dataclass(frozen=True)
class BlockPattern:
    """Blocks of `rows` outputs x `columns` inputs of the matrix [outputs, all the rest]; the tails are
    smaller blocks."""

    rows: int
    columns: int
    fixed_sparsity: None = None

    def refusal(self, channels: int) -> str:
        """Blocks fit every layer: an empty text."""
        return ""

    def misfit(self, outputs: int, channels: int) -> tuple[str, str]:
        """Why blocks would have tails, and which rows would not; empty texts if all are whole."""
        if outputs % self.rows == 0:
            return "", ""
        return f"{outputs} outputs are no multiple of {self.rows}", f"rows of {_divisors(outputs)}"

    def pooled(self, importances: Array) -> Array:
        """Mean of each block of `importances` [O, ...]: float64 [blocks down, blocks across]."""
        matrix = importances.reshape(len(importances), -1).astype(np.float64)
        return np.asarray(self._sums(matrix) / self._sums(np.ones_like(matrix)))

    def sizes(self, shape: Sequence[int]) -> Array:
        """How many weights each block has: int64 [blocks down, blocks across]."""
        return self._sums(np.ones((shape[0], prod(shape[1:])), np.int64))

    def _sums(self, matrix: Array) -> Array:
        down = np.add.reduceat(matrix, np.arange(0, matrix.shape[0], self.rows), axis=0)
        sums: Array = np.add.reduceat(down, np.arange(0, matrix.shape[1], self.columns), axis=1)
        return sums

    def keep(self, importances: Array, sparsity: float, lost: int | None = None) -> Array:
        """Which weights stay where each has the importance in `importances` [O, ...]: bool of that shape.

        `lost` blocks go if given, else the share `sparsity`; those of least mean, the first of equals.
        """
        scores = self.pooled(importances)
        count = round(sparsity * scores.size) if lost is None else lost
        alive = np.ones(scores.size, bool)
        # One block stays: a layer without weights would be a constant.
        alive[np.argsort(scores, axis=None, kind="stable")[: min(count, scores.size - 1)]] = False
        blocks = alive.reshape(scores.shape).repeat(self.rows, axis=0).repeat(self.columns, axis=1)
        matrix = blocks[: len(importances), : importances[0].size]
        return matrix.reshape(importances.shape)


@dataclass(frozen=True)
class GroupPattern:
    """Of every `of` consecutive input channels of one output (and kernel position), `kept` stay."""

    kept: int
    of: int

    @property
    def fixed_sparsity(self) -> float:
        """The share of zeros that the pattern itself gives."""
        return 1 - self.kept / self.of

    def refusal(self, channels: int) -> str:
        """Why a layer with so many input channels cannot have the pattern; empty if it can."""
        return f"{channels} input channels are no multiple of {self.of}" if channels % self.of else ""

    def misfit(self, outputs: int, channels: int) -> tuple[str, str]:
        """Why a layer cannot have the pattern, and which groups it can have; empty texts if it can."""
        text = self.refusal(channels)
        return text, f"groups of {_divisors(channels)}" if text else ""

    def pooled(self, importances: Array) -> Array:
        """The importance of each weight: float64, [groups, of], channels moved last."""
        moved = np.moveaxis(importances, 1, -1)
        return np.asarray(moved.reshape(-1, self.of).astype(np.float64))

    def keep(self, importances: Array, sparsity: float, lost: int | None = None) -> Array:
        """Which weights stay: bool, shaped like `importances`; the pattern alone decides how many."""
        # Stable and reversed: of equal weights the later ones stay.
        order = np.argsort(self.pooled(importances), axis=1, kind="stable")
        alive = np.zeros(order.shape, bool)
        np.put_along_axis(alive, order[:, self.of - self.kept :], True, axis=1)
        shape = importances.shape
        return np.moveaxis(alive.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


Pattern = BlockPattern | GroupPattern


def _divisors(count: int) -> str:
    return ", ".join(str(n) for n in range(1, min(count, _LARGEST) + 1) if count % n == 0)


@cache
def parse_pattern(text: str) -> Pattern:
    """The pattern that `element`, `4x1` or `2:4` names. Raises OptionError.

    >>> parse_pattern("2:4")
    GroupPattern(kept=2, of=4)
    """
    if text == "element":
        return BlockPattern(1, 1)
    if found := re.fullmatch(r"([0-9]{1,3})x([0-9]{1,3})", text):
        rows, columns = map(int, found.groups())
        if 0 < rows <= _LARGEST and 0 < columns <= _LARGEST:
            return BlockPattern(rows, columns)
    if found := re.fullmatch(r"([0-9]{1,3}):([0-9]{1,3})", text):
        kept, of = map(int, found.groups())
        if 0 < kept < of <= _LARGEST:
            return GroupPattern(kept, of)
    raise OptionError(
        "not a sparsity pattern",
        where=text,
        expected=f"element, RxC such as 4x1, or N:M such as 2:4 (up to {_LARGEST})",
    )
