"""Places tensors whose sizes have no bound: in parts of the arena that lie one behind the other.

A part is as large as the largest tensor that is ever in it, by formula; a tensor goes into a part that no
living tensor is in, the one that fits best where all symbols are of some size. Where parts begin is computed
when sizes are known, and stands in the table.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from ..dims import Size, evaluated, fits, larger, symbols_of
from .arena import ALIGNMENT
from .table import Table

__all__ = ["Need", "Part", "aligned", "divided", "stacked"]

_SOME = 100  # what every symbol is supposed to be, to compare formulas


@dataclass(frozen=True)
class Need:
    """A tensor of `bytes` that is needed from step `first` to step `last`, both included."""

    tensor: Hashable
    bytes: Size
    first: int
    last: int


@dataclass
class Part:
    """Bytes for tensors that never live at the same time."""

    bytes: Size
    last: int  # step up to which it is taken
    tensors: list[Hashable]


def aligned(size: Size) -> Size:
    """The next multiple of 64."""
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def divided(needs: Sequence[Need]) -> list[Part]:
    """The parts that hold all tensors."""
    parts: list[Part] = []
    for need in sorted(needs, key=lambda need: need.first):
        free = [part for part in parts if part.last < need.first]
        if not free:
            parts.append(Part(need.bytes, need.last, [need.tensor]))
            continue
        best = min(free, key=lambda part: _misfit(part.bytes, need.bytes))
        best.bytes = best.bytes if fits(need.bytes, best.bytes) else larger(best.bytes, need.bytes)
        best.last = need.last
        best.tensors.append(need.tensor)
    return parts


def stacked(table: Table, parts: Sequence[Part], start: Size) -> tuple[dict[Any, Size], Size]:
    """Offset of every tensor, from `start` on, and the end of all; each part takes a number of the table."""
    offsets: dict[Any, Size] = {}
    end = start
    for part in parts:
        offsets.update(dict.fromkeys(part.tensors, end))
        end = table.number("offset", end + aligned(part.bytes))
    return offsets, end


def _misfit(part: Size, wanted: Size) -> tuple[bool, int]:
    """Parts of a formula that fits come first, then those whose size is nearest."""
    return not fits(wanted, part), abs(_value(part) - _value(wanted))


def _value(size: Size) -> int:
    found = evaluated(size, {s.name: max(s.least, min(_SOME, s.most or _SOME)) for s in symbols_of(size)})
    assert isinstance(found, int)
    return found
