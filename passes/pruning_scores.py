"""How much each weight matters: by its size, by the activations it meets, or by the error it causes.

    magnitude      w^2
    relative       w^2 / mean of w^2 of its output: scales of outputs mean little once a batch norm is folded
    activation     w^2 * E[x_k^2]                        (Wanda, Sun et al. 2023, arXiv:2306.11695, squared)
    second-order   w_g^T [(H^-1)_gg]^-1 w_g,  H = E[x x^T] + damping
                   (optimal brain surgeon, Hassibi and Stork 1992; groups: Kurtic et al. 2022,
                   arXiv:2203.07259, eq. 5)

The last two are errors: `activation` is the error of outputs if the weight goes alone and the inputs are
uncorrelated, `second-order` that error when the weights that stay make up for it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["DATA_FREE", "Score", "importances"]

Array = npt.NDArray[np.float64]
_TINY = np.finfo(np.float64).tiny
DATA_FREE = ("magnitude", "relative")
"""Scores of the weights alone."""
Score = Literal["magnitude", "relative", "activation", "second-order"]


def importances(weight: Array, score: Score, moments: Array | None, columns: int = 1) -> Array:
    """A number for each weight of `weight` [O, K]: float64 [O, K], not negative.

    `moments` [K, K] are the damped second moments of the rows the layer reads, which the first two do
    without. Where `columns` neighbours of a row go together, `second-order` gives each its share of what the
    group matters, so that a sum over the group is the group's.
    """
    if score == "magnitude":
        return np.square(weight)
    if score == "relative":
        squares = np.square(weight)
        return np.asarray(squares / np.maximum(squares.mean(axis=1, keepdims=True), _TINY))
    assert moments is not None
    if score == "activation":
        return np.asarray(np.square(weight) * np.diag(moments))
    inverse = np.linalg.inv(moments)
    if columns == 1:
        return np.asarray(np.square(weight) / np.diag(inverse))
    shares = np.empty_like(weight)
    for start in range(0, weight.shape[1], columns):
        part = slice(start, start + columns)
        saliency = weight[:, part] * np.linalg.solve(inverse[part, part], weight[:, part].T).T
        # of correlated inputs one may have a negative share; what counts is the sum
        shares[:, part] = saliency.sum(axis=1, keepdims=True) / saliency.shape[1]
    return shares
