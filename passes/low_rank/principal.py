"""The directions in which a layer's outputs vary most.

Of all `W'` of rank k, the one whose outputs are nearest to those of `W` is `U_k U_k^T W`, where `U_k` are the
first eigenvectors of the outputs' second moments `W C W^T`: with `C = L L^T` this is the truncated SVD of `W
L`, times `L^-1`, found without either. With `C = 1` it is the truncated SVD of `W` (Eckart and Young 1936).
"""

from __future__ import annotations

import numpy as np

from .problem import Array, Problem

__all__ = ["principal_outputs"]


def principal_outputs(problem: Problem) -> tuple[Array, Array]:
    """(U [O, d] orthonormal, energies [d] falling), d = min(O, K); the energies' sum is the outputs'."""
    matrix = problem.matrix
    if matrix.shape[0] > matrix.shape[1]:
        frame, core = np.linalg.qr(matrix)
    else:
        frame, core = None, matrix
    gram = problem.ridge * (core @ core.T)
    if problem.rows is not None:
        results = problem.outputs_of(core)
        gram += results.T @ results / max(1, len(results))
    energies, vectors = np.linalg.eigh(gram)
    vectors = vectors[:, ::-1]
    basis = vectors if frame is None else frame @ vectors
    return _with_signs(basis), np.maximum(energies[::-1], 0.0)


def _with_signs(basis: Array) -> Array:
    """Each vector with its largest element positive: the same on every machine."""
    largest = np.take_along_axis(basis, np.abs(basis).argmax(axis=0)[None], axis=0)
    return np.asarray(basis * np.where(largest < 0, -1.0, 1.0))
