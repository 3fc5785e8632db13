"""Integer weights packed for the product kernel, and the kernel itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..cpu.integer_dot import Dot
from ..cpu.integer_epilogue import Finish
from ..cpu.integer_product import IntegerProduct, Reach
from ..cpu.integer_sums import PlainSums
from ..cpu.integer_tile import best_integer_tile
from ..cpu.integer_widened import WidenedProduct, widens
from ..cpu.register_tile import tile_runs
from ..cpu.tensor import Tensor
from ..dims import is_fixed
from .choice import Choice
from .integer_sparse import sparse_plan
from .integer_winograd import winograd_plan
from .state import Lowering

__all__ = ["Panels"]

_MANY = 1 << 10  # rows for which the tile is chosen where their number is known at run time
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Panels:
    """`matrix` (groups, outputs of one, taps, run) holds the weights of every tap's run."""

    dot: Dot
    reach: Reach
    matrix: Array

    @cached_property
    def rows(self) -> Array:
        """(groups, outputs, steps · depth), zero where runs end: int64."""
        length = -(-self.reach.run // self.dot.depth) * self.dot.depth
        padded = np.zeros((*self.matrix.shape[:3], length), np.int64)
        padded[..., : self.reach.run] = self.matrix
        return padded.reshape(*self.matrix.shape[:2], -1)

    @property
    def strips(self) -> int:
        """Vectors of outputs of one group."""
        return -(-int(self.matrix.shape[1]) // self.dot.lanes)

    @cached_property
    def totals(self) -> Array:
        """The sum of the weights of each output, which a zero point multiplies."""
        return np.asarray(self.rows.sum(axis=2).reshape(-1))

    @property
    def most(self) -> Array:
        """What no sum of products exceeds."""
        return np.asarray(np.abs(self.rows).sum(axis=2).reshape(-1) * 255.0)

    def packed(self, row: Array) -> Array:
        """One value per output as the kernel reads them: whole vectors for each group."""
        groups, outputs = self.matrix.shape[:2]
        full = np.zeros((groups, self.strips * self.dot.lanes), row.dtype)
        full[:, :outputs] = row.reshape(groups, outputs)
        return full

    def append(
        self,
        state: Lowering,
        name: str,
        source: Tensor,
        bias: Tensor,
        out: Tensor,
        out_steps: tuple[int, int, int],
        room: int,
        finish: Finish | PlainSums,
        stored: str,
    ) -> Choice:
        """Adds the kernel; sums start from `bias` (int32, packed). `stored` names the type of the weights."""
        dot, reach, outputs = self.dot, self.reach, self.matrix.shape[1]
        sparse = sparse_plan(dot, reach, self.matrix[0].reshape(outputs, -1))
        if sparse is not None:
            return sparse.append(state, name, source, bias, out, out_steps[1], room, finish)
        winograd = winograd_plan(dot, source, out, out_steps, reach, self.matrix)
        if winograd is not None:
            return winograd.append(state, name, source, bias, out, room, finish, stored)
        pixels = tuple(n if is_fixed(n) else _MANY for n in reach.pixels[1:])
        tile = best_integer_tile(dot, (pixels[0], pixels[1]), self.strips, self.rows.shape[2] // dot.depth)
        weights = np.concatenate([_panels(dot, group, tile[2]) for group in self.rows])
        packed = state.pool.add(f"{name}.weight", weights, f"{dot.name} panels of {tile[2]} vectors")
        kernel = WidenedProduct if widens(reach, dot.reads) else IntegerProduct
        state.steps.append(
            kernel(source, packed, bias, out, reach, out_steps, outputs, room, tile, dot, finish)
        )
        label = f"{tile[0]}x{tile[1]}" if tile[0] > 1 and tile[1] > 1 else f"{tile[0] * tile[1]}"
        reason = f"{dot.name}, {dot.depth} products a lane"
        return Choice(
            "integer-gemm", 0, f"{label}x{tile[2]}v", reason, format=stored, stored_bytes=weights.nbytes
        )


def _panels(dot: Dot, rows: Array, most: int) -> Array:
    """(outputs, inputs) as flat panels of at most `most` strips, which alternate step by step."""
    strips = dot.pack(rows)
    panels = []
    for first, width, count in tile_runs(len(strips), most):
        for panel in range(count):
            start = first + panel * width
            panels.append(strips[start : start + width].swapaxes(0, 1).ravel())
    return np.concatenate(panels)
