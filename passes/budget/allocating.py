"""Which level each layer gets: the seam where another search can stand in for the greedy one.

The errors of layers are taken to add up. For each layer only levels on the lower convex hull of (bytes,
error) matter; going from all layers as they are, the step that costs the least error for each byte is taken
next. That is optimal for sums up to the last step (Shoham and Gersho 1988).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .levels import Level

__all__ = ["Allocator", "Candidate", "greedy"]


@dataclass(frozen=True)
class Candidate:
    """A layer at one level (None: as it is): bytes of its weights, and the error of the model's outputs."""

    node: str
    level: Level | None
    bytes: int
    error: float


Allocator = Callable[[Mapping[str, Sequence[Candidate]], int], list[dict[str, Candidate]]]
"""Of each node's candidates and a size in bytes: allocations, each smaller than the one before, the last one
within the size if that is possible at all."""


def greedy(candidates: Mapping[str, Sequence[Candidate]], size: int) -> list[dict[str, Candidate]]:
    """The path from everything as it is to `size`, by steps of least error for each byte saved."""
    steps = [step for own in candidates.values() for step in pairwise(_hull(own))]
    steps.sort(key=lambda step: (_price(*step), step[1].node))
    chosen = {node: max(own, key=lambda c: (c.bytes, -c.error)) for node, own in candidates.items()}
    path = [dict(chosen)]
    total = sum(candidate.bytes for candidate in chosen.values())
    for before, after in steps:
        if total <= size:
            break
        chosen[after.node] = after
        total += after.bytes - before.bytes
        path.append(dict(chosen))
    return path


def _price(before: Candidate, after: Candidate) -> float:
    return (after.error - before.error) / (before.bytes - after.bytes)


def _hull(candidates: Sequence[Candidate]) -> list[Candidate]:
    """From the largest to the smallest: prices rise from step to step."""
    hull: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (-c.bytes, c.error)):
        if hull and candidate.bytes == hull[-1].bytes:
            continue
        while len(hull) > 1 and _price(hull[-1], candidate) <= _price(hull[-2], hull[-1]):
            hull.pop()
        hull.append(candidate)
    return hull
