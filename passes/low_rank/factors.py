"""What replaces a weight: two products, the second of which keeps the bias."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..storing import Stored

__all__ = ["AnyFactors", "BlockFactors", "Factors", "balanced"]

Single = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Factors:
    """`down` [r, I, ...] reads the input, `up` [O, r, ...] gives the output; a bias grows by `shift` [O].

    `stored` is `up` in a format, where it is not stored as it is.
    """

    down: Single
    up: Single
    shift: Single | None = None
    stored: Stored | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the factors, without the bias."""
        return self.down.nbytes + (self.stored.nbytes if self.stored is not None else self.up.nbytes)


@dataclass(frozen=True)
class BlockFactors:
    """`first` [k, p, q * b] and `second` [q, k * b, s], batched products with a permutation between."""

    first: Single
    second: Single
    shift: Single | None = None

    @property
    def rank(self) -> int:
        """b: of each block."""
        return int(self.first.shape[2]) // len(self.second)

    @property
    def nbytes(self) -> int:
        """Bytes of the factors, without the bias."""
        return self.first.nbytes + self.second.nbytes


AnyFactors = Factors | BlockFactors


def balanced(up: Array, down: Array) -> tuple[Array, Array]:
    """`up` [O, r] and `down` [r, K] with the same product, columns of one as long as rows of the other.

    Of plain SVD these are `U sqrt(S)` and `sqrt(S) V^T`.
    """
    left, right = np.linalg.norm(up, axis=0), np.linalg.norm(down, axis=1)
    alive = (left > 0) & (right > 0)
    scale = np.sqrt(np.divide(right, left, out=np.ones_like(left), where=alive))
    return up * scale, down / scale[:, None]
