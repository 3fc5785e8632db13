"""Assigning codewords so that errors of one input are made up for by later inputs.

What a layer computes from inputs x is off by (W - W^) x, whose mean square over calibration data is
tr (W - W^) H (W - W^)', with H = E[x x']. Inputs are stored one after another; the error of each is spread
over those that are still open, by the inverse of their part of H (GPTQ, arXiv:2210.17323; VPTQ does the same
with vectors along the outputs, arXiv:2409.17066). Inputs with the largest second moment go first.

H comes in blocks of neighbouring inputs: between blocks nothing is made up for, and the work for each
output is the sum of the blocks' squares, not K squared.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["assign_compensated"]

Floats = npt.NDArray[np.float64]
_LAZY = 64
Quantize = Callable[[Floats, int], Floats]


def assign_compensated(weight: Floats, blocks: list[Floats], damping: float, quantize: Quantize) -> Floats:
    """Decode `weight` [O, K] input by input, changing it in place where errors are made up for.

    `quantize(values [O], k)` gives what input k decodes to. `blocks` are those of `Inputs.grams`, whose
    groups share out the outputs. Returns what is decoded, [O, K].
    """
    decoded = np.empty_like(weight)
    start = 0
    for grams in blocks:
        end = start + grams.shape[-1]
        _assign_block(weight[:, start:end], decoded[:, start:end], grams, damping, quantize, start)
        start = end
    return decoded


def _assign_block(
    weight: Floats,
    decoded: Floats,
    grams: Floats,
    damping: float,
    quantize: Quantize,
    first: int,
) -> None:
    groups, size, _ = grams.shape
    order = np.argsort(-np.einsum("gkk->k", grams), kind="stable")
    spread = _spreading(grams[:, order][:, :, order], damping)
    work = weight[:, order].reshape(groups, -1, size)
    errors = np.empty((groups, work.shape[1], _LAZY))
    for start in range(0, size, _LAZY):
        end = min(start + _LAZY, size)
        for at in range(start, end):
            values = work[:, :, at].reshape(-1)
            found = quantize(values, first + int(order[at]))
            decoded[:, order[at]] = found
            error = ((values - found).reshape(groups, -1)) / spread[:, at, at, None]
            work[:, :, at + 1 : end] -= error[:, :, None] * spread[:, None, at, at + 1 : end]
            errors[:, :, at - start] = error
        if end < size:
            work[:, :, end:] -= errors[:, :, : end - start] @ spread[:, start:end, end:]


def _spreading(grams: Floats, damping: float) -> Floats:
    """Upper Cholesky factors of the inverses, [groups, b, b], after adding to the diagonals.

    With R the lower factor of the reversed matrix, its inverse reversed back is that upper factor: one
    factorisation, and no inverse of H itself.
    """
    diagonal = np.einsum("gkk->gk", grams)
    mean = diagonal.mean(axis=1, keepdims=True)
    mean = np.where(mean > 0, mean, 1.0)
    raised = grams + (damping * mean)[:, :, None] * np.eye(grams.shape[-1])
    lower = np.linalg.cholesky(raised[:, ::-1, ::-1])
    upper: Floats = np.linalg.inv(lower)[:, ::-1, ::-1]
    return upper
