"""Integer weights with blocks of zeros: whether the sparse kernel is faster, and how it stores them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..cpu.integer_dot import Dot
from ..cpu.integer_epilogue import Finish
from ..cpu.integer_product import Reach
from ..cpu.integer_sparse import BLOCK_INPUTS, SparseIntegerProduct, most_vectors
from ..cpu.integer_sums import PlainSums
from ..cpu.tensor import Tensor
from ..dims import fits
from .choice import Choice
from .state import Lowering

__all__ = ["SparsePlan", "sparse_plan"]

Array = np.ndarray[Any, np.dtype[Any]]
_ROWS = (8, 4)  # outputs of a block
_RATE = {8: 0.9, 4: 0.9}  # of the dense kernel's, while blocks are multiplied
_TURNING = 30.0  # inputs that dense sums take as long for as turning sums and activations takes


@dataclass(frozen=True)
class SparsePlan:
    """Weights (outputs, inputs) in blocks of `rows` outputs; `kept` is the share in stored blocks."""

    dot: Dot
    reach: Reach
    weights: Array
    rows: int
    kept: float
    cost: float

    def append(
        self,
        state: Lowering,
        name: str,
        source: Tensor,
        bias: Tensor,
        out: Tensor,
        out_pitch: int,
        room: int,
        finish: Finish | PlainSums,
    ) -> Choice:
        """Adds the kernel."""
        blocks = _blocks(self.weights, self.rows, self.dot.lanes)
        stored = blocks.any(axis=(2, 3))
        starts = np.concatenate([[0], np.cumsum(stored.sum(axis=1))]).astype(np.int32)
        each = BLOCK_INPUTS // self.dot.depth
        columns = (np.nonzero(stored)[1] * each).astype(np.int32)
        words = self._words(blocks[stored])
        label = f"block-sparse {self.rows}x{BLOCK_INPUTS}"

        def added(what: str, array: Array) -> Tensor:
            return state.pool.add(f"{name}.{what}", array if array.size else np.zeros(1, np.int32), label)

        kernel = SparseIntegerProduct(
            source=source,
            words=added("weight", words),
            columns=added("columns", columns),
            starts=added("starts", starts),
            bias=bias,
            out=out,
            pixels=self.reach.pixels[1],
            inputs=self.reach.run,
            pitch=self.reach.steps[1],
            out_pitch=out_pitch,
            outputs=len(self.weights),
            room=room,
            rows=self.rows,
            dot=self.dot,
            finish=finish,
        )
        state.steps.append(kernel)
        reason = (
            f"{self.dot.name}, {self.rows}x{BLOCK_INPUTS} blocks keep {self.kept:.0%}: "
            f"estimated {self.cost:.2f} of dense time"
        )
        vectors = most_vectors(state.isa, self.rows)
        stored_bytes = words.nbytes + columns.nbytes + starts.nbytes
        return Choice(
            "sparse-integer-gemm",
            self.rows,
            f"{self.rows}x{vectors}v",
            reason,
            self.kept,
            label,
            stored_bytes,
        )

    def _words(self, blocks: Array) -> Array:
        """Blocks (n, rows, 4) as int32 words (n, steps of a block, rows)."""
        depth = self.dot.depth
        parts = blocks.reshape(len(blocks), self.rows, BLOCK_INPUTS // depth, depth).swapaxes(1, 2)
        dtype = np.int16 if self.dot.reads == "int16" else np.int8
        return np.ascontiguousarray(parts.astype(dtype)).view(np.int32)[..., 0]


def sparse_plan(dot: Dot, reach: Reach, weights: Array) -> SparsePlan | None:
    """How weights (outputs, inputs) are stored without blocks of zeros; None where dense is faster.

    One pixel of a flat run of pixels must be all that an output reads.
    """
    single = reach.groups == 1 and prod(count for count, _ in reach.taps) == 1
    flat = reach.pixels[0] == 1 and reach.pixels[2] == 1
    if not (single and flat and dot.paired == dot.depth and fits(dot.lanes, reach.pixels[1])):
        return None
    best = None
    for rows in _ROWS:
        if dot.lanes % rows or most_vectors(dot.isa, rows) < 1:
            continue
        kept = float(_blocks(weights, rows, dot.lanes).any(axis=(2, 3)).mean())
        cost = kept / _RATE[rows] + _TURNING / weights.shape[1]
        if cost < 1.0 and (best is None or cost < best.cost):
            best = SparsePlan(dot, reach, weights, rows, kept, cost)
    return best


def _blocks(weights: Array, rows: int, lanes: int) -> Array:
    """(groups of rows, columns, rows, 4), padded with zeros to whole vectors of outputs."""
    outputs, inputs = weights.shape
    height, width = -(-outputs // lanes) * lanes, -(-inputs // BLOCK_INPUTS) * BLOCK_INPUTS
    padded = np.zeros((height, width), weights.dtype)
    padded[:outputs, :inputs] = weights
    return padded.reshape(height // rows, rows, width // BLOCK_INPUTS, BLOCK_INPUTS).swapaxes(1, 2)
