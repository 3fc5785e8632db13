"""One weight that is to become a product, and the data that says which of its errors matter.

With rows `X` [n, K] that a layer reads, the error of `W'` is that of its outputs,

    |(X - mean) (W - W')^T|^2 / n + damping * mean(X^2) * |W - W'|^2

The second term decides in directions that the data does not show. A layer with a bias loses nothing by the
mean of its inputs, since the bias takes `(W - W') mean`; one without counts it as error. Without rows, the
error is `|W - W'|^2`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Problem", "Single"]

Array = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Problem:
    """A weight [O, I, *kernel] float32 with `rows` [n, K] float32 that its layer reads, K = I * taps.

    `originals` are the rows that the layer read in the source model, of the same pixels, where `rows` come
    from a model whose earlier layers have changed already: the outputs that are asked for are those of
    `originals`. `centred` says that a bias takes the mean.
    """

    weight: Single
    rows: Single | None = None
    originals: Single | None = None
    centred: bool = False
    damping: float = 0.01
    stride: int = 1
    """Of the last axis of a convolution: what a separable one computes more of."""

    @property
    def kernel(self) -> tuple[int, ...]:
        """Sizes of a convolution's window, () for a matrix."""
        return self.weight.shape[2:]

    @property
    def outputs(self) -> int:
        """O."""
        return int(self.weight.shape[0])

    @property
    def depth(self) -> int:
        """K: inputs of one output."""
        return int(np.prod(self.weight.shape[1:]))

    @cached_property
    def mean(self) -> Array:
        """What is taken from rows: their mean [K], or zeros."""
        if self.rows is None or not self.centred:
            return np.zeros(self.depth)
        return np.asarray(self.rows.mean(axis=0, dtype=np.float64))

    @cached_property
    def ridge(self) -> float:
        """Factor of `|W - W'|^2` beside the error of outputs; 1 without rows."""
        if self.rows is None:
            return 1.0
        power = float(np.mean(np.square(self.rows - self.mean.astype(np.float32)), dtype=np.float64))
        return max(self.damping * power, 1e-30)

    @cached_property
    def matrix(self) -> Array:
        """What is approximated, [O, K]: the weight, or the one that gives the source's outputs from `rows`.

        Of all matrices `V`, `|X0 W^T - X V^T|^2 + ridge |W - V|^2` is least at
        `V = W + W (X0 - X)^T X (X^T X + ridge)^-1`; and then any product's error in the outputs is that of
        `V` plus its own distance to `V`.
        """
        weight = self.weight.reshape(self.outputs, -1).astype(np.float64)
        if self.rows is None or self.originals is None:
            return weight
        rows = self.rows - self.mean.astype(np.float32)
        moved = self.originals - self.original_mean.astype(np.float32) - rows
        count = len(rows)
        gram = second_moment(rows)
        cross = (rows.T @ (moved @ weight.T.astype(np.float32))).astype(np.float64) / count
        gram[np.diag_indices_from(gram)] += self.ridge
        return np.asarray(weight + np.linalg.solve(gram, cross).T)

    @cached_property
    def original_mean(self) -> Array:
        """The mean of the rows in the source model."""
        if self.originals is None or not self.centred:
            return self.mean
        return np.asarray(self.originals.mean(axis=0, dtype=np.float64))

    def bias_shift(self, product: Array) -> Array | None:
        """What a bias [O] grows by when the weight becomes `product` [O, K]; None without rows or bias."""
        if self.rows is None or not self.centred:
            return None
        weight = self.weight.reshape(self.outputs, -1).astype(np.float64)
        return np.asarray(weight @ self.original_mean - product @ self.mean)

    def outputs_of(self, matrix: Array) -> Array:
        """Rows times `matrix` [m, K], centred: [n, m]."""
        assert self.rows is not None
        product = self.rows @ matrix.T.astype(np.float32)
        return np.asarray(product.astype(np.float64) - (matrix @ self.mean))

    def moments(self) -> Array:
        """`C` [K, K] such that the error of `W'` is the trace of `(W - W') C (W - W')^T`."""
        if self.rows is None:
            return np.eye(self.depth)
        moments = second_moment(self.rows - self.mean.astype(np.float32))
        moments[np.diag_indices_from(moments)] += self.ridge
        return moments


def second_moment(rows: Single) -> Array:
    """`X^T X / n` in float64, a few rows at a time."""
    total = np.zeros((rows.shape[1], rows.shape[1]))
    for start in range(0, len(rows), 1024):
        part = rows[start : start + 1024]
        total += part.T @ part
    return total / max(1, len(rows))
