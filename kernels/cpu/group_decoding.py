"""4-bit levels in registers to float32, times activations.

    y = Σ_k q_k x_k  or  Σ_k (q_k - z) x_k      of one group, in vectors of partial sums

AVX-512 permutes a table by the words as they are: lane q of the table of z is q - z, and a shift brings the
next nibble to the place that the permutation reads. Other targets mask a nibble where it stands in its word
and convert it: that is q · 16^i, exactly, and 16^-i was multiplied into the activations beforehand. There z
times the group's activations is the kernel's to take away.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32, vector_type
from .group_levels import NIBBLES, GroupLayout
from .isa import Isa
from .permuting import can_permute, permute

__all__ = ["GroupDecoding", "decoding_for"]

_ZEROS = 16
_CHAINS = 4  # sums of a long group that go on side by side


class GroupDecoding(ABC):
    """How the groups of a step are multiplied.

    `tables` is a flat float32 constant that `product` reads, if any; `subtracts_zero` tells which of the two
    sums it gives.
    """

    subtracts_zero: bool

    def __init__(self, layout: GroupLayout) -> None:
        self.layout = layout

    @property
    @abstractmethod
    def tables(self) -> np.ndarray | None:
        """Flat float32."""

    @abstractmethod
    def factor(self, vector: int) -> float:
        """What vector `vector` of a group's activations is multiplied with beforehand."""

    @abstractmethod
    def scale_factor(self, group: int) -> float:
        """What the scale of group `group` of a step is multiplied with."""

    def product(
        self,
        b: Builder,
        tables: Pointer | None,
        words: Callable[[int], Any],
        group: int,
        zero: Any,
        rows: list[Callable[[int], Any]],
        scaled: tuple[Any, list[Any]] | None = None,
    ) -> list[Any]:
        """Partial sums of group `group` of a step for each row: vectors.

        `words(r)` is register r of the step, `zero` the zero point, `rows[m](v)` vector v of the group's
        activations in row m. `scaled` gives the scale and sums to which the products are added.
        """
        chains = min(_CHAINS, max(1, self.layout.vectors // 4))
        totals: list[list[Any]] = [[None] * chains for _ in rows]
        for sums, before in zip(totals, scaled[1] if scaled else [], strict=bool(scaled)):
            sums[0] = before
        table = self._table(b, tables, zero)
        for vector in range(self.layout.vectors):
            register, nibble = divmod(group * self.layout.vectors + vector, NIBBLES)
            level = b.hold(self._level(b, table, words(register), nibble))
            level = b.hold(level * scaled[0]) if scaled else level
            for sums, row in zip(totals, rows, strict=True):
                before, x = sums[vector % chains], row(vector)
                sums[vector % chains] = b.hold(
                    level * x if before is None else b.isa.multiply_add(level, x, before)
                )
        return [b.hold(sum(sums[1:], sums[0])) for sums in totals]

    @abstractmethod
    def _table(self, b: Builder, tables: Pointer | None, zero: Any) -> Any:
        """What `_level` reads for groups with this zero point."""

    @abstractmethod
    def _level(self, b: Builder, table: Any, word: Any, nibble: int) -> Any:
        """The levels of nibble `nibble` of each lane, over the factor of their activations."""


class _Permuted(GroupDecoding):
    subtracts_zero = True

    @property
    def tables(self) -> np.ndarray:
        """Of each zero point a register."""
        levels = np.arange(self.layout.lanes)[None, :] - np.arange(_ZEROS)[:, None]
        return levels.astype(np.float32).ravel()

    def factor(self, vector: int) -> float:
        return 1.0

    def scale_factor(self, group: int) -> float:
        return 1.0

    def _table(self, b: Builder, tables: Pointer | None, zero: Any) -> Any:
        assert tables is not None
        return b.hold(tables.load(b.let(zero * self.layout.lanes), self.layout.lanes))

    def _level(self, b: Builder, table: Any, word: Any, nibble: int) -> Any:
        shift = tir.Broadcast(int32(4 * nibble), self.layout.lanes)
        return permute(b.isa, table, tir.shift_right(word, shift) if nibble else word)


class _Masked(GroupDecoding):
    subtracts_zero = False

    @property
    def tables(self) -> None:
        return None

    @property
    def _whole(self) -> bool:
        """Whether a group fills whole words; else several have their places in one."""
        return self.layout.vectors >= NIBBLES

    def factor(self, vector: int) -> float:
        nibble = vector % NIBBLES
        return 1.0 if self._whole and nibble == NIBBLES - 1 else 16.0**-nibble

    def scale_factor(self, group: int) -> float:
        return float(16.0 ** -(group * self.layout.vectors % NIBBLES))

    def _table(self, b: Builder, tables: Pointer | None, zero: Any) -> None:
        return None

    def _level(self, b: Builder, table: None, word: Any, nibble: int) -> Any:
        """q · 16^nibble; q itself for the last of a whole word, which holds the sign."""
        lanes = self.layout.lanes
        wide = vector_type("float32", lanes)
        if nibble < NIBBLES - 1:
            return tir.Cast(wide, tir.bitwise_and(word, constant(15 << 4 * nibble, "int32", lanes)))
        bits = tir.reinterpret(vector_type("uint32", lanes), word)
        last = tir.shift_right(bits, constant(4 * nibble, "uint32", lanes))
        level = tir.Cast(wide, tir.reinterpret(vector_type("int32", lanes), last))
        return level if self._whole else level * constant(16.0**nibble, "float32", lanes)


def decoding_for(isa: Isa, size: int) -> GroupDecoding:
    """The fastest decoding of groups of `size`."""
    layout = GroupLayout(size, isa.lanes)
    return _Permuted(layout) if can_permute(isa) and isa.lanes == _ZEROS else _Masked(layout)
