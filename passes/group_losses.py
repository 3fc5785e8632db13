"""What a layer's outputs lose when a whole group of weights goes: the group's squared error.

magnitude      sum of w^2
activation     sum of w^2 E[x^2]
second-order   w_g [(H^-1)_gg]^-1 w_g', H = E[x x'], damped: the least error if all other weights make up
               for it (optimal brain surgeon, Hassibi and Stork 1992, for a group in place of one weight)
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Loss", "group_losses", "keep_largest"]

Loss = Literal["magnitude", "activation", "second-order"]
Float = npt.NDArray[Any]


def group_losses(
    weight: npt.NDArray[np.float32], group: int, loss: Loss, factor: Float | None, second: Float | None
) -> Float:
    """The losses [N, ceil(K / group)] of the groups of `weight` [N, K].

    `factor` is U, upper triangular, with U' U = H^-1, which `second-order` needs; `second` is E[x^2], [K],
    which `activation` needs.
    """
    if loss == "second-order":
        assert factor is not None
        return _second_order(weight, group, factor)
    squares = weight.astype(np.float64) ** 2
    if loss == "activation":
        assert second is not None
        squares *= second
    losses: Float = np.add.reduceat(squares, np.arange(0, weight.shape[1], group), axis=1)
    return losses


def _second_order(weight: npt.NDArray[np.float32], group: int, factor: Float) -> Float:
    starts = range(0, weight.shape[1], group)
    losses = np.empty((len(weight), len(starts)))
    for number, start in enumerate(starts):
        part = slice(start, start + group)
        own, columns = weight[:, part].astype(np.float64), factor[: part.stop, part]
        inverse = columns.T @ columns
        losses[:, number] = np.einsum("nk,nk->n", own @ np.linalg.inv(inverse), own)
    return losses


def keep_largest(losses: Float, count: int) -> npt.NDArray[np.bool_]:
    """Which `count` of the losses are the largest, one at least; of equal ones the later."""
    alive = np.ones(losses.size, bool)
    alive[np.argsort(losses, axis=None, kind="stable")[: losses.size - max(1, count)]] = False
    return alive.reshape(losses.shape)
