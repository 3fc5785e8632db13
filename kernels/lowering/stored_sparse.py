"""Block-sparse weights whose surviving blocks stay as a format stores them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..cpu.isa import Isa
from ..cpu.stored_blocks import StoredRuns
from ..cpu.tensor import Tensor
from .choice import Choice, sparse_choices
from .encoded.panels import ANY, StoredWeight, store_strips
from .state import Encoded, Lowering
from .stored_layers import PlaneWeight

__all__ = ["SparseStore", "store_sparse"]

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class SparseStore:
    """The R×1 blocks of a weight as a kernel decodes them, and the choice of that kernel."""

    runs: StoredRuns
    tensors: tuple[Tensor, ...]  # of the strips, then firsts, columns, starts
    choice: Choice
    stored: StoredWeight

    def weight(self, tile: tuple[int, int]) -> PlaneWeight:
        """With the tile of the kernel."""
        reason = f"{self.choice.reason}; decoded by rows of blocks"
        choice = replace(self.choice, reason=reason).with_tile(tile)
        return PlaneWeight(self.runs, self.tensors, tile, choice, self.stored)


def store_sparse(
    state: Lowering, name: str, encoded: Encoded, matrix: Array, places: Array, limit: float
) -> SparseStore | None:
    """The weights (M, K), found at `places` of what `encoded` decodes to, in the best blocks it can store.

    None where none can be stored, or none takes less than `limit` of the dense kernel's time.
    """
    for choice in sparse_choices(state.isa, matrix, limit):
        kept, strips = _strips(matrix, places, choice.rows)
        stored = store_strips(state, name, encoded, strips) if sum(map(len, strips)) else None
        if stored is not None and stored.scale is None:
            return _stored(state, name, kept, stored, choice)
    return None


def _strips(matrix: Array, places: Array, rows: int) -> tuple[list[Array], list[Array]]:
    """Of every row of blocks: the inputs of those that are not zero, and the places of their weights."""
    count, depth = matrix.shape
    whole = -(-count // rows) * rows
    alive, where = np.zeros((whole, depth), bool), np.full((whole, depth), ANY)
    alive[:count], where[:count] = matrix != 0, places
    any_alive = np.asarray(alive.reshape(-1, rows, depth).any(axis=1))
    kept = [np.flatnonzero(row) for row in any_alive]
    return kept, [where[i * rows : (i + 1) * rows, inputs].T for i, inputs in enumerate(kept)]


def _stored(
    state: Lowering, name: str, kept: Sequence[Array], stored: StoredWeight, choice: Choice
) -> SparseStore:
    sizes, steps = [len(k) for k in kept], [stored.strips.steps(len(k)) for k in kept]
    packing = f"block-sparse {choice.rows}x1"
    gaps = np.concatenate([np.diff(inputs, prepend=0) for inputs in kept])
    kind = next(t for t in (np.uint8, np.uint16, np.int32) if gaps.max(initial=0) <= np.iinfo(t).max)
    firsts = state.pool.add(f"{name}.firsts", _running(steps), packing)
    tensors = (
        *stored.strips.tensors,
        firsts,
        state.pool.add(f"{name}.gaps", gaps.astype(kind), packing),
        state.pool.add(f"{name}.starts", _running(sizes), packing),
    )
    together, most = _together(state.isa, steps, stored.strips.step)
    runs = StoredRuns(stored.strips, firsts, together, max(1, *steps), most)
    bytes_read = stored.bytes + sum(t.bytes for t in tensors[-3:])
    label = f"{packing} of {stored.format}"
    noted = replace(stored, format=label, bytes=bytes_read)
    return SparseStore(runs, tensors, noted.noted(choice), noted)


def _running(counts: Sequence[int]) -> Array:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)


def _together(isa: Isa, steps: Sequence[int], step: int) -> tuple[int, int]:
    """How many neighbouring strips fill a part of the cache when decoded, and the most steps they have."""
    share, before = isa.target.l2_bytes // 4 // (4 * step), _running(steps)
    found = 1, max(1, *steps)
    for count in range(2, len(steps) + 1):
        most = int((before[count:] - before[:-count]).max())
        if most > share:
            break
        found = count, max(1, most)
    return found
