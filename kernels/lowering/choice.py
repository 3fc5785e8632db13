"""Dense or sparse, and with which blocks: the cost model of weights with zeros.

Work is counted in multiply-add instructions of one vector column. A sparse kernel with R×1 blocks does R of
them for each block that is not zero, at the share of the dense kernel's rate that was found for R (a block
loads one index and `v` vectors for R·v multiply-adds). It is chosen only where that is less than the dense
kernel's count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..cpu.isa import Isa
from ..cpu.register_tile import fits

__all__ = ["Choice", "choose_rows", "sparse_choices"]

# Shares of the dense rate by R, for each way to broadcast a scalar (targets/base.py). Measured on layers of
# MobileNet-v1: "memory" with AVX-512 on Zen 4, "all" in Node. "lane" counts AArch64 instructions of loops;
# "register" is taken to be alike.
_EFFICIENCY = {
    "memory": {16: 1.0, 8: 1.0, 4: 0.95, 2: 0.65, 1: 0.35},
    "all": {4: 0.88, 2: 0.81, 1: 0.52},
    "lane": {16: 0.95, 8: 0.95, 4: 0.88, 2: 0.60, 1: 0.40},
    "register": {8: 0.95, 4: 0.88, 2: 0.60, 1: 0.40},
}

_MOST_KEPT = 0.9  # of the weights, in the blocks of a sparse kernel that is worth a trial


@dataclass(frozen=True)
class Choice:
    """A kernel for one weight: `rows` is R of its blocks, 0 when dense."""

    kernel: str
    rows: int
    tile: str
    reason: str
    kept: float = 1.0  # share of weights in blocks that are stored
    format: str = ""  # of a weight that is read as a format stores it: "palette 4 bit"
    stored_bytes: int = 0  # of such a weight, as its kernel reads it

    def with_tile(self, tile: tuple[int, int]) -> Choice:
        """The same, with the tile in the report."""
        return replace(self, tile=f"{tile[0]}x{tile[1]}v")


def choose_rows(isa: Isa, matrix: np.ndarray | None, dense_time: float = 1.0) -> Choice:
    """The kernel for weights (M, K); None when the layer has no sparse kernel.

    `dense_time` is that of the best kernel for dense weights, as a share of the direct sum's.
    """
    dense = "gemm"
    if matrix is None:
        return Choice(dense, 0, "", "grouped: no sparse kernel")
    zeros = 1.0 - np.count_nonzero(matrix) / max(1, matrix.size)
    if zeros < 0.1:
        return Choice(dense, 0, "", f"{zeros:.0%} zeros")
    cost, rows, kept = min(_costs(isa, matrix), key=lambda found: found[0])
    if cost >= dense_time:
        return Choice(
            dense, 0, "", f"{zeros:.0%} zeros, but {rows}x1 blocks keep {kept:.0%}: dense is faster"
        )
    return _sparse_choice(cost, rows, kept)


def sparse_choices(isa: Isa, matrix: np.ndarray, limit: float) -> list[Choice]:
    """Sparse kernels that may take less than `limit` of the dense kernel's time, the best first."""
    costs = sorted(_costs(isa, matrix), key=lambda found: found[0])
    return [_sparse_choice(*found) for found in costs if found[0] < limit and found[2] < _MOST_KEPT]


def _costs(isa: Isa, matrix: np.ndarray) -> Iterator[tuple[float, int, float]]:
    """For every R: (share of the dense time, R, share of the weights that is kept)."""
    for rows, rate in _EFFICIENCY[isa.target.broadcast].items():
        if rows <= len(matrix) and fits(isa, rows, 1):
            kept = _kept(matrix, rows)
            yield kept / rate, rows, kept


def _sparse_choice(cost: float, rows: int, kept: float) -> Choice:
    reason = f"{rows}x1 blocks keep {kept:.0%}: estimated {cost:.2f} of dense time"
    return Choice("sparse-gemm", rows, "", reason, kept)


def _kept(matrix: np.ndarray, rows: int) -> float:
    """Share of the matrix in R×1 blocks with any non-zero."""
    count = -(-len(matrix) // rows)
    padded = np.zeros((count * rows, matrix.shape[1]), bool)
    padded[: len(matrix)] = matrix != 0
    return float(padded.reshape(count, rows, -1).any(axis=1).mean())
