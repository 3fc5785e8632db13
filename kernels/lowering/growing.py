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

__all__ = ["Span", "aligned", "grow"]

_SOME = 100  # what every symbol is supposed to be, to compare formulas


@dataclass(frozen=True)
class Span:
    """A tensor of `bytes` that is needed from step `first` to step `last`, both included."""

    tensor: Hashable
    bytes: Size
    first: int
    last: int


@dataclass
class _Part:
    bytes: Size
    last: int  # step up to which it is taken
    tensors: list[Hashable]


def aligned(size: Size) -> Size:
    """The next multiple of 64."""
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def grow(table: Table, spans: Sequence[Span], start: int) -> tuple[dict[Any, Size], Size]:
    """Offset of every tensor, from `start` on, and the end of all."""
    parts: list[_Part] = []
    for span in sorted(spans, key=lambda s: s.first):
        free = [part for part in parts if part.last < span.first]
        if not free:
            parts.append(_Part(span.bytes, span.last, [span.tensor]))
            continue
        best = min(free, key=lambda part: _misfit(part.bytes, span.bytes))
        best.bytes = best.bytes if fits(span.bytes, best.bytes) else larger(best.bytes, span.bytes)
        best.last = span.last
        best.tensors.append(span.tensor)
    offsets: dict[Any, Size] = {}
    end: Size = start
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
