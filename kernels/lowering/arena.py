"""Places tensors with known lifetimes in one block of memory.

Tensors are taken from the largest down; each goes to the lowest offset where it overlaps no placed tensor
that lives at the same time (greedy by size, as in Pisarchyk and Lee, "Efficient Memory Management for Deep
Neural Net Inference", 2020).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

__all__ = ["Lifetime", "lower_bound", "place"]

ALIGNMENT = 64


@dataclass(frozen=True)
class Lifetime:
    """A tensor of `bytes` that is needed from step `first` to step `last`, both included."""

    tensor: Hashable
    bytes: int
    first: int
    last: int


def place(lifetimes: Sequence[Lifetime]) -> tuple[dict[Hashable, int], int]:
    """Byte offset of every tensor (multiples of 64), and the total size.

    >>> place([Lifetime("a", 100, 0, 1), Lifetime("b", 50, 1, 2), Lifetime("c", 100, 2, 3)])
    ({'a': 0, 'c': 0, 'b': 128}, 192)
    """
    placed: list[tuple[int, int, Lifetime]] = []
    offsets: dict[Hashable, int] = {}
    for life in sorted(lifetimes, key=lambda t: (-t.bytes, t.first)):
        size = -(-life.bytes // ALIGNMENT) * ALIGNMENT
        taken = sorted((o, o + s) for o, s, t in placed if t.first <= life.last and life.first <= t.last)
        offset = 0
        for start, end in taken:
            if offset + size <= start:
                break
            offset = max(offset, end)
        placed.append((offset, size, life))
        offsets[life.tensor] = offset
    return offsets, max((o + s for o, s, _ in placed), default=0)


def lower_bound(lifetimes: Sequence[Lifetime]) -> int:
    """Most bytes alive at any one step: no placement can need less."""
    steps = {t.first for t in lifetimes}
    return max((sum(t.bytes for t in lifetimes if t.first <= s <= t.last) for s in steps), default=0)
