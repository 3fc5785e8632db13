"""Cuts a weight [O, K] into blocks of signs and a low rank, and puts the blocks of all layers in order.

The signs of what is left are exact, and its magnitudes, all positive, are close to a matrix of low rank:

    block = sign(R) * (left @ right)      left @ right: of the rank k nearest to |R|
    R <- R - block

With rows X that the layer reads, inputs that are large count more: R starts as W * s, s the root mean square
of each input, and the decoded columns are divided by s.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gossamer.kernels.bit_packing import pack_bits
from gossamer.kernels.formats.base import Array
from gossamer.kernels.formats.bit_stack import Block, pack_bit_stack

__all__ = ["Stack", "block_bytes", "block_rank", "load_order", "stack_blocks"]

Float = npt.NDArray[np.float32]
_FACTOR_BITS = 0.5  # that the factors of a block may take for each weight, if their rank is more than one
_MOST_ROWS = 256  # on which the error of the outputs is measured
_LEAST_INPUT = 2.0**-6  # of the mean: an input that is silent in the data may speak later
_SMALL = 64  # up to this size the exact singular values are cheap
_SPARE, _TURNS = 8, 2  # more directions than asked, and power iterations, of the approximate ones


@dataclass(frozen=True)
class Stack:
    """Blocks of a weight of `shape`; `errors[i]` is the share of the outputs' energy that i blocks miss."""

    shape: tuple[int, ...]
    blocks: list[Block]
    columns: npt.NDArray[np.float16]
    errors: list[float]

    def parts(self, order: Sequence[int]) -> dict[str, Array]:
        """As the format bit-stack stores them, each block with its place in the order of loading."""
        return pack_bit_stack(self.shape, self.blocks, self.columns, order)


def block_rank(outputs: int, inputs: int, most: int) -> int:
    """The rank of a weight's blocks: up to `most`, as long as factors take half a bit for each weight."""
    cheap = int(_FACTOR_BITS * outputs * inputs / (16 * (outputs + inputs)))
    return max(1, min(most, cheap, outputs, inputs))


def block_bytes(outputs: int, inputs: int, rank: int) -> int:
    """What a block takes."""
    return -(-outputs * inputs // 8) + 2 * rank * (outputs + inputs)


def stack_blocks(weight: Array, rows: Float | None, blocks: int, most_rank: int) -> Stack:
    """`blocks` blocks of `weight`, float32 [O, ...]; `rows` [n, K] are what the layer reads, where known."""
    matrix = np.ascontiguousarray(weight.reshape(len(weight), -1))
    columns = _columns(matrix, rows)
    factors = columns.astype(np.float32)
    sample = None if rows is None else rows[:: -(-len(rows) // _MOST_ROWS)] * factors
    rest = (matrix / factors).astype(np.float32)
    rank = block_rank(len(matrix), matrix.shape[1], most_rank)
    energies = [_energy(rest, sample)]
    found = []
    for _ in range(blocks):
        minus = rest < 0
        left, right = _leading(np.abs(rest), rank)
        product = left.astype(np.float32) @ right.astype(np.float32)
        rest -= np.where(minus, -product, product)
        found.append((pack_bits(minus.view(np.uint8), 1), left, right))
        energies.append(_energy(rest, sample))
    whole = energies[0] or 1.0
    return Stack(weight.shape, found, columns, [energy / whole for energy in energies])


def _columns(matrix: Float, rows: Float | None) -> npt.NDArray[np.float16]:
    """What the decoded columns are multiplied by: 1 / s, around 1."""
    if rows is None:
        return np.ones(matrix.shape[1], np.float16)
    size = np.sqrt(np.mean(rows.astype(np.float64) ** 2, axis=0))
    mean = float(size.mean()) or 1.0
    factors: npt.NDArray[np.float16] = (1 / np.maximum(size / mean, _LEAST_INPUT)).astype(np.float16)
    return factors


def _energy(rest: Float, sample: Float | None) -> float:
    """Of what is missing: of the outputs on the sample, or of the weight."""
    missing = rest if sample is None else sample @ rest.T
    return float(np.einsum("ij,ij->", missing, missing, dtype=np.float64))


def _leading(positive: Float, rank: int) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float16]]:
    """The best left [O, k] and right [k, K] for a matrix of magnitudes, the same for the same matrix."""
    if min(positive.shape) <= _SMALL:
        u, sizes, v = np.linalg.svd(positive, full_matrices=False)
    else:
        # randomised subspace iteration (Halko et al. 2011, arXiv:0909.4061, algorithm 4.4)
        start = np.random.default_rng(0).standard_normal((positive.shape[1], rank + _SPARE), np.float32)
        basis, _ = np.linalg.qr(positive @ start)
        for _ in range(_TURNS):
            across, _ = np.linalg.qr(positive.T @ basis)
            basis, _ = np.linalg.qr(positive @ across)
        u, sizes, v = np.linalg.svd(basis.T @ positive, full_matrices=False)
        u = basis @ u
    root = np.sqrt(sizes[:rank])
    return (u[:, :rank] * root).astype(np.float16), (root[:, None] * v[:rank]).astype(np.float16)


def load_order(errors: Sequence[Sequence[float]], sizes: Sequence[int]) -> list[list[int]]:
    """When each block of each layer is loaded: numbers from 0, ascending within a layer.

    `errors[l][i]` is what layer l misses with i blocks, `sizes[l]` the bytes of a block. First comes one
    block of every layer, as no layer can do without, then always the block that gains most for its bytes.
    """
    order: list[list[int]] = [[number] for number in range(len(errors))]
    heap = [entry for number in range(len(errors)) if (entry := _next(errors, sizes, number, 1))]
    heapq.heapify(heap)
    count = len(errors)
    while heap:
        _, number, block = heapq.heappop(heap)
        order[number].append(count)
        count += 1
        if entry := _next(errors, sizes, number, block + 1):
            heapq.heappush(heap, entry)
    return order


def _next(
    errors: Sequence[Sequence[float]], sizes: Sequence[int], number: int, block: int
) -> tuple[float, int, int] | None:
    """(loss per byte, layer, block), so that the best comes first; None where the layer has no such block."""
    own = errors[number]
    if block + 1 >= len(own):
        return None
    return (own[block + 1] - own[block]) / sizes[number], number, block
