"""Blocks of rank b: a Monarch matrix where b = 1, a plain product of rank b where there is one block.

    x [n, K] seen as [n, k, p];  W [N, K], N = s * q, row c * q + j, seen as blocks (j, i) of [s, p]
    z[n, j, i] = first[i, :, j] . x[n, i]      k products of p x (q * b)
    y[n, c, j] = sum_i second[j, i, c] . z[n, j, i]    q products of (k * b) x s

The best product for `|W - W'|` is that of the first b singular vectors of each block (Dao et al. 2022,
arXiv:2204.00595, for b = 1 and square matrices); its squared error is the sum of all other squared singular
values. With data each block's directions are those of its own part of the outputs, and `second` is then the
best for this `first`, by least squares.
"""

from __future__ import annotations

import numpy as np

from ..curve import Curve
from ..factors import BlockFactors
from ..problem import Array, Problem, Single

__all__ = ["curve", "factorise", "from_blocks", "to_blocks"]

_GRIDS = (2, 4, 8, 16, 32, 64)
_SHARES = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)  # of the greatest rank of blocks


def curve(problem: Problem) -> Curve | None:
    """Grids of k x q blocks that divide the weight, each with some ranks that are smaller than the weight."""
    if problem.kernel:
        return None
    outputs, depth = problem.outputs, problem.depth
    sizes, errors = list[tuple[int, ...]](), list[float]()
    for grid in _grids(outputs, depth):
        ranks = _ranks(outputs, depth, grid)
        if not ranks:
            continue
        fit = _Fit(problem, grid, max(ranks))
        sizes += [(*grid, rank) for rank in ranks]
        errors += [fit.error(rank) for rank in ranks]
    if not sizes:
        return None
    weights = np.array([b * (k * outputs + q * depth) for k, q, b in sizes], np.int64)
    shapes = np.array([8 * (6 if rank == 1 else 13) for _, _, rank in sizes])  # of Reshapes
    return Curve("monarch", sizes, 4 * weights + shapes, weights, np.array(errors))


def factorise(problem: Problem, size: tuple[int, ...], basis: Single | None) -> BlockFactors:
    """The factors of one size."""
    k, q, rank = size
    fit = _Fit(problem, (k, q), rank)
    down, up = fit.down[:, :, :rank], fit.up(rank)
    product = from_blocks(np.einsum("jisb,jibp->jisp", up, down))
    shift = problem.bias_shift(product)
    first = down.transpose(1, 3, 0, 2).reshape(k, -1, q * rank)  # (k, p, q * b)
    second = up.transpose(0, 1, 3, 2).reshape(q, k * rank, -1)  # (q, k * b, s)
    scale = np.sqrt(np.linalg.norm(second) / max(float(np.linalg.norm(first)), 1e-300)) or 1.0
    return BlockFactors(
        (first * scale).astype(np.float32),
        (second / scale).astype(np.float32),
        None if shift is None else shift.astype(np.float32),
    )


def to_blocks(matrix: Array, k: int, q: int) -> Array:
    """[N, K] -> [q, k, s, p], N = s * q and K = k * p."""
    outputs, depth = matrix.shape
    return np.ascontiguousarray(matrix.reshape(outputs // q, q, k, depth // k).transpose(1, 2, 0, 3))


def from_blocks(blocks: Array) -> Array:
    """[q, k, s, p] -> [N, K]."""
    q, k, s, p = blocks.shape
    return np.ascontiguousarray(blocks.transpose(2, 0, 1, 3).reshape(s * q, k * p))


def _grids(outputs: int, depth: int) -> list[tuple[int, int]]:
    root = (round(np.sqrt(depth)), round(np.sqrt(outputs)))
    found = [(grid, grid) for grid in _GRIDS] + [root]
    return sorted({(k, q) for k, q in found if k > 1 and q > 1 and depth % k == 0 and outputs % q == 0})


def _ranks(outputs: int, depth: int, grid: tuple[int, int]) -> list[int]:
    k, q = grid
    most = min(outputs // q, depth // k, (outputs * depth - 1) // (k * outputs + q * depth))
    return sorted({max(1, round(share * most)) for share in _SHARES}) if most > 0 else []


class _Fit:
    """Directions of each block, and what is left when the second factor is the best for some of them."""

    def __init__(self, problem: Problem, grid: tuple[int, int], most: int) -> None:
        self._problem, (self._k, self._l) = problem, grid
        self._blocks = to_blocks(problem.matrix, *grid)  # (q, k, s, p)
        ridge = problem.ridge
        gram = ridge * np.einsum("jisp,jitp->jist", self._blocks, self._blocks, optimize=True)
        self._rows: Array | None = None
        if problem.rows is not None:
            rows = (problem.rows - problem.mean.astype(np.float32)).reshape(len(problem.rows), self._k, -1)
            self._rows = rows.astype(np.float64)
            for i in range(self._k):
                seen = np.einsum("np,jsp->jns", self._rows[:, i], self._blocks[:, i], optimize=True)
                gram[:, i] += np.matmul(seen.swapaxes(1, 2), seen) / len(rows)
        energies, vectors = np.linalg.eigh(gram)
        self._energies = np.maximum(energies[..., ::-1], 0)
        self._basis = vectors[..., ::-1][..., :most]  # (q, k, s, b)
        self.down = np.einsum("jisb,jisp->jibp", self._basis, self._blocks, optimize=True)
        self._systems = [self._system(j) for j in range(self._l)] if self._rows is not None else []

    def _system(self, j: int) -> tuple[Array, Array, float]:
        """Normal equations of the outputs of block row `j`, features in the order (b, k)."""
        assert self._rows is not None
        ridge, count = self._problem.ridge, len(self._rows)
        down = self.down[j].swapaxes(0, 1)  # (b, k, p)
        features = np.einsum("nkp,bkp->nbk", self._rows, down, optimize=True).reshape(count, -1)
        blocks = self._blocks[j]
        wanted = np.einsum("nkp,ksp->ns", self._rows, blocks, optimize=True)
        own = np.einsum("bkp,ckp->kbc", down, down)
        gram = features.T @ features / count
        gram += ridge * np.einsum("kbc,km->bkcm", own, np.eye(self._k)).reshape(gram.shape)
        cross = features.T @ wanted / count
        cross += ridge * np.einsum("bkp,ksp->bks", down, blocks).reshape(cross.shape)
        return gram, cross, float(np.sum(wanted**2) / count + ridge * np.sum(blocks**2))

    def _solve(self, j: int, rank: int) -> Array:
        gram, cross, _ = self._systems[j]
        size = rank * self._k
        part = gram[:size, :size].copy()
        part[np.diag_indices(size)] += 1e-9 * np.trace(part) / size
        return np.asarray(np.linalg.solve(part, cross[:size]))

    def error(self, rank: int) -> float:
        """The share of the outputs' energy that is lost."""
        if self._rows is None:
            return float(self._energies[..., rank:].sum() / max(self._energies.sum(), 1e-300))
        kept = sum(
            float(np.sum(self._solve(j, rank) * self._systems[j][1][: rank * self._k]))
            for j in range(self._l)
        )
        total = sum(energy for _, _, energy in self._systems)
        return max(0.0, 1 - kept / max(total, 1e-300))

    def up(self, rank: int) -> Array:
        """(q, k, s, b)."""
        if self._rows is None:
            return np.asarray(self._basis[..., :rank])
        found = [self._solve(j, rank).reshape(rank, self._k, -1) for j in range(self._l)]
        return np.stack(found).transpose(0, 2, 3, 1)
