"""A few dense rows, and s of them for each output: `W = S D`, S [O, r] with s non-zeros in every row.

    x @ W^T = (x @ D^T) @ S^T      S is stored in the block-sparse format, its blocks single elements

With s = r this is a product of low rank; with s below r it reaches what lies in several small subspaces
(DSFormer, arXiv:2312.13211; K-SVD, Aharon et al. 2006, without its atom-by-atom update). Rows of S come from
orthogonal matching pursuit, D from least squares, in turns. All that either needs to know of data and weight
is `M = W C W^T` [O, O], since the best D for S is a combination of rows of W.
"""

from __future__ import annotations

import numpy as np

from gossamer.kernels.formats import find_format

from ...storing import Stored
from ..curve import Curve
from ..factors import Factors
from ..problem import Array, Problem, Single

__all__ = ["curve", "factorise"]

_COUNTS = (2, 4, 8, 16)  # non-zeros of a row that are tried
_LEVELS = (0.25, 0.4, 0.55, 0.7, 0.85)  # of the dense weight's bytes
_TURNS, _MORE_TURNS = 6, 100  # for the curve, and for the factors
_PATIENCE = 3  # turns that gain less than 1 %
_GAIN = 0.99
_NOTHING = 1e-12  # of the energy: what is left of a weight that is found exactly


def curve(problem: Problem) -> Curve | None:
    """Some numbers of rows r for each s, that are smaller than the weight."""
    outputs, depth = problem.outputs, problem.depth
    dense = 4 * outputs * depth
    sizes = [
        (rows, count)
        for count in _COUNTS
        for level in _LEVELS
        if 2 * count <= (rows := _rows_at(problem, int(level * dense), count)) < min(outputs, depth)
    ]
    if not sizes:
        return None
    moments = _moments(problem)
    energy = max(float(np.trace(moments)), 1e-300)
    errors = [_learn(moments, rows, count, _TURNS)[1] / energy for rows, count in sizes]
    nbytes = np.array([_nbytes(problem, *size) for size in sizes], np.int64)
    work = np.array([rows * depth + outputs * count for rows, count in sizes], np.int64)
    return Curve("dense-sparse", sizes, nbytes, work, np.array(errors))


def factorise(problem: Problem, size: tuple[int, ...], basis: Single | None) -> Factors:
    """The factors of one size; every row of `up` has exactly s non-zeros."""
    rows, count = size
    codes, _ = _learn(_moments(problem), rows, count, _MORE_TURNS)
    down = _combinations(codes) @ problem.matrix
    lengths = np.maximum(np.linalg.norm(down, axis=1), 1e-30)
    scale = np.sqrt(np.maximum(np.linalg.norm(codes, axis=0), 1e-30) / lengths)
    up, down = codes / scale, down * scale[:, None]
    shift = problem.bias_shift(up @ down)
    sparse = np.ascontiguousarray(up, np.float32).reshape(problem.outputs, rows, *[1] * len(problem.kernel))
    # a coefficient that is zero by chance is stored all the same
    sparse[(codes != 0).reshape(sparse.shape) & (sparse == 0)] = np.finfo(np.float32).tiny
    kind = find_format("block-sparse")
    return Factors(
        down.astype(np.float32).reshape(rows, *problem.weight.shape[1:]),
        sparse,
        None if shift is None else shift.astype(np.float32),
        Stored(kind.name, kind.encode(sparse, rows=1, columns=1)),
    )


def _nbytes(problem: Problem, rows: int, count: int) -> int:
    """Of D, of S's values, of its bit mask and of its shape."""
    outputs = problem.outputs
    return 4 * rows * problem.depth + 4 * outputs * count + -(-outputs * rows // 8) + 8 * problem.weight.ndim


def _rows_at(problem: Problem, nbytes: int, count: int) -> int:
    free = nbytes - _nbytes(problem, 0, count)
    return int(free / (4 * problem.depth + problem.outputs / 8))


def _moments(problem: Problem) -> Array:
    """`W C W^T` [O, O]."""
    matrix = problem.matrix
    moments = problem.ridge * (matrix @ matrix.T)
    if problem.rows is not None:
        results = problem.outputs_of(matrix)
        moments += results.T @ results / max(1, len(results))
    return moments


def _combinations(codes: Array) -> Array:
    """`(S^T S)^-1 S^T` [r, O]: the rows of D as combinations of the weight's."""
    gram = codes.T @ codes
    gram[np.diag_indices_from(gram)] += 1e-10 * max(float(np.trace(gram)), 1e-30) / len(gram)
    return np.asarray(np.linalg.solve(gram, codes.T))


def _learn(moments: Array, rows: int, count: int, turns: int) -> tuple[Array, float]:
    """(S [O, r], the energy that is lost): matching pursuit and least squares in turns, the best codes met.

    Where turns gain no more, a row of D starts again from what an output loses: K-SVD's way out of a local
    minimum. All draws come from one seed, so that the result is the same on every machine.
    """
    random = np.random.default_rng(0)
    combinations = np.zeros((rows, len(moments)))
    combinations[np.arange(rows), random.choice(len(moments), rows, replace=False)] = 1.0
    best, least, last, stuck = np.zeros((len(moments), rows)), np.inf, np.inf, 0
    for _ in range(turns):
        codes = _pursue(moments, combinations, count)
        combinations = _combinations(codes)
        residual = np.eye(len(moments)) - codes @ combinations
        lost = np.maximum(np.einsum("oq,oq->o", residual @ moments, residual), 0.0)
        total = float(lost.sum())
        if total < least:
            best, least = codes, total
        if least < _NOTHING * np.trace(moments):
            break
        stuck = 0 if total < _GAIN * last else stuck + 1
        last = total
        _replace_idle(combinations, codes, lost)
        if stuck >= _PATIENCE:
            worst = np.argsort(-lost, kind="stable")[random.integers(min(5, len(lost)))]
            combinations[random.integers(rows)] = residual[worst]
            last, stuck = np.inf, 0
    return best, least


def _replace_idle(combinations: Array, codes: Array, lost: Array) -> None:
    """Rows of D that few outputs use start again from the outputs that lose most."""
    uses = np.count_nonzero(codes, axis=0)
    idle = np.flatnonzero(uses <= 1)
    for atom, output in zip(idle, np.argsort(-lost, kind="stable"), strict=False):
        combinations[atom] = 0.0
        combinations[atom, output] = 1.0


def _pursue(moments: Array, combinations: Array, count: int) -> Array:
    """Orthogonal matching pursuit of every output at once: S [O, r] with `count` non-zeros in each row."""
    against = combinations @ moments  # (r, O)
    gram = against @ combinations.T
    lengths = np.sqrt(np.maximum(np.diag(gram), 1e-30))
    gram, against = gram / np.outer(lengths, lengths), against / lengths[:, None]
    outputs, rows = against.shape[1], len(gram)
    chosen = np.zeros((outputs, 0), np.int64)
    left = against.T.copy()
    free = np.ones((outputs, rows), bool)
    values = np.zeros((outputs, 0))
    everyone = np.arange(outputs)
    for _ in range(count):
        best = np.where(free, np.abs(left), -1.0).argmax(axis=1)
        free[everyone, best] = False
        chosen = np.concatenate([chosen, best[:, None]], axis=1)
        system = gram[chosen[:, :, None], chosen[:, None, :]] + 1e-9 * np.eye(chosen.shape[1])
        wanted = np.take_along_axis(against.T, chosen, axis=1)
        values = np.linalg.solve(system, wanted[:, :, None])[:, :, 0]
        left = against.T - np.matmul(values[:, None], gram[chosen])[:, 0]
    codes = np.zeros((outputs, rows))
    np.put_along_axis(codes, chosen, np.where(values == 0, 1e-30, values), axis=1)
    return np.asarray(codes / lengths)
