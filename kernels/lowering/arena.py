"""Places tensors with known lifetimes in one block of memory.

Tensors are taken one after another; each goes to the lowest offset where it overlaps no placed tensor that
lives at the same time (greedy first fit, as in Pisarchyk and Lee, "Efficient Memory Management for Deep
Neural Net Inference", 2020). What that needs depends on the order, so several are tried: by size, by size
times lifetime, by the memory alive around the tensor, by time. The best of them is then improved: the
tensor at the top of the block takes its turn earlier, as long as that helps now and then.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Lifetime", "lower_bound", "place"]

ALIGNMENT = 64
_MOST_WORK = 4_000_000  # tensors x tensors looked at over all orders: some seconds
_PATIENCE = 24  # moves without a gain before the search ends


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
    ({'a': 0, 'b': 128, 'c': 0}, 192)
    """
    problem = _Problem(lifetimes)
    best = problem.improve(problem.best_order())
    offsets = {life.tensor: offset for life, offset in zip(lifetimes, best.offsets, strict=True)}
    return offsets, best.size


def lower_bound(lifetimes: Sequence[Lifetime]) -> int:
    """Most bytes alive at any one step: no placement can need less."""
    return max(_alive([(t.bytes, t.first, t.last) for t in lifetimes]), default=0)


def _alive(spans: Sequence[tuple[int, int, int]]) -> list[int]:
    """Bytes alive at each step, of (bytes, first, last)."""
    steps = 1 + max((last for _, _, last in spans), default=-1)
    change = [0] * (steps + 1)
    for size, first, last in spans:
        change[first] += size
        change[last + 1] -= size
    total, found = 0, []
    for step in range(steps):
        total += change[step]
        found.append(total)
    return found


@dataclass(frozen=True)
class _Fit:
    order: list[int]
    offsets: list[int]
    size: int


class _Problem:
    """Tensors by number; sizes are rounded up to the alignment."""

    def __init__(self, lifetimes: Sequence[Lifetime]) -> None:
        self.spans = [(-(-t.bytes // ALIGNMENT) * ALIGNMENT, t.first, t.last) for t in lifetimes]
        self.alive = _alive(self.spans)
        self.least = max(self.alive, default=0)
        self.rivals = self._rivals()
        self.work = 0

    def _rivals(self) -> list[list[int]]:
        """For each tensor the others that live while it does."""
        rivals: list[list[int]] = [[] for _ in self.spans]
        open_now: list[int] = []
        for i in sorted(range(len(self.spans)), key=lambda i: self.spans[i][1]):
            open_now = [j for j in open_now if self.spans[j][2] >= self.spans[i][1]]
            for j in open_now:
                rivals[i].append(j)
                rivals[j].append(i)
            open_now.append(i)
        return rivals

    def best_order(self) -> _Fit:
        """The best of the orders, or the first perfect one."""
        best: _Fit | None = None
        for order in self.orders():
            fit = self.fit(order)
            best = fit if best is None or fit.size < best.size else best
            if best.size == self.least or self.work > _MOST_WORK:
                break
        assert best is not None
        return best

    def orders(self) -> Iterator[list[int]]:
        """Orders worth trying."""
        spans, numbers = self.spans, range(len(self.spans))
        crowd = [max(self.alive[first : last + 1], default=0) for _, first, last in spans]
        keys = (
            lambda i: (-spans[i][0], spans[i][1]),
            lambda i: (-spans[i][0] * (1 + spans[i][2] - spans[i][1]), spans[i][1]),
            lambda i: (-crowd[i], -spans[i][0], spans[i][1]),
            lambda i: (-(1 + spans[i][2] - spans[i][1]), -spans[i][0]),
            lambda i: (spans[i][1], -spans[i][0]),
            lambda i: (-spans[i][2], -spans[i][0]),
        )
        for key in keys:
            yield sorted(numbers, key=key)

    def fit(self, order: list[int]) -> _Fit:
        """Lowest free place for each tensor of `order` in turn."""
        offsets = [-1] * len(self.spans)
        top = 0
        for i in order:
            size = self.spans[i][0]
            taken = sorted(
                (offsets[j], offsets[j] + self.spans[j][0]) for j in self.rivals[i] if offsets[j] >= 0
            )
            self.work += len(self.rivals[i]) + 1
            offset = 0
            for start, end in taken:
                if offset + size <= start:
                    break
                offset = max(offset, end)
            offsets[i] = offset
            top = max(top, offset + size)
        return _Fit(order, offsets, top)

    def improve(self, best: _Fit) -> _Fit:
        """Lets what ends at the top take its turn earlier: by one place, by more where that was no gain."""
        current, idle = best, 0
        while best.size > self.least and idle < _PATIENCE and self.work < _MOST_WORK:
            ends = [current.offsets[i] + self.spans[i][0] for i in current.order]
            turn = len(ends) - 1 - ends[::-1].index(current.size)
            order = [i for i in current.order if i != current.order[turn]]
            order.insert(max(0, turn - 1 - idle), current.order[turn])
            current = self.fit(order)
            idle += 1
            if current.size < best.size:
                best, idle = current, 0
        return best
