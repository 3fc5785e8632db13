"""Lays weights out as kernels read them; all arrays are numpy, shapes as said."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..cpu.register_tile import tile_runs

__all__ = ["SparseRows", "pack_columns", "pack_rows", "sparse_rows"]


def pack_rows(weights: np.ndarray, height: int) -> np.ndarray:
    """(M, K) → for each block of `height` rows its (K, height) transpose, one after another, flat."""
    blocks = [weights[i : i + height].T.ravel() for i in range(0, len(weights), height)]
    return np.concatenate(blocks).astype(np.float32)


def pack_columns(weights: np.ndarray, lanes: int, most: int) -> np.ndarray:
    """(K, N) → panels (K × width·lanes) of whole vectors of columns, zero-padded, flat."""
    depth, columns = weights.shape
    vectors = -(-columns // lanes)
    padded = np.zeros((depth, vectors * lanes), np.float32)
    padded[:, :columns] = weights
    panels = []
    for first, width, count in tile_runs(vectors, most):
        for tile in range(count):
            start = (first + tile * width) * lanes
            panels.append(padded[:, start : start + width * lanes].ravel())
    return np.concatenate(panels)


@dataclass(frozen=True)
class SparseRows:
    """R×1 blocks: `values` (n, R), `columns` (n,) of each block, `starts` (blocks of rows + 1,)."""

    values: np.ndarray
    columns: np.ndarray
    starts: np.ndarray


def sparse_rows(weights: np.ndarray, rows: int, multiple: int = 1) -> SparseRows:
    """The R×1 blocks of (M, K) that are not zero; each run is padded with zeros to a `multiple`."""
    count, depth = weights.shape
    padded = np.zeros((-(-count // rows) * rows, depth), np.float32)
    padded[:count] = weights
    blocks = padded.reshape(-1, rows, depth)
    values, columns, starts = [], [], [0]
    for block in blocks:
        kept = np.flatnonzero(np.any(block != 0, axis=0))
        extra = -len(kept) % multiple
        values.append(np.concatenate([block[:, kept].T, np.zeros((extra, rows), np.float32)]))
        columns.append(np.concatenate([kept, np.zeros(extra, np.int64)]))
        starts.append(starts[-1] + len(kept) + extra)
    packed = np.concatenate(values).astype(np.float32)
    return SparseRows(packed, np.concatenate(columns).astype(np.int32), np.asarray(starts, np.int32))
