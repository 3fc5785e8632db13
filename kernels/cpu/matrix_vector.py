"""Matrix × vector: a 1×1 convolution of a single pixel, vectors running along the output channels.

    out[n, m] = epilogue(bias[m] + Σ_k weights[k, m] · source[n, k])

Several sums over interleaved k hide the latency of multiply-adds where few vectors are computed at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer
from .epilogue import evaluate
from .isa import Isa
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .register_tile import RegisterTile, tile_runs
from .tensor import Tensor

__all__ = ["MatrixVector", "panel_vectors"]


def panel_vectors(isa: Isa) -> int:
    """Vectors of outputs that are computed at once."""
    return 8 if isa.registers >= 32 else 4


@dataclass(eq=False)
class MatrixVector(Kernel):
    """`source`: (N, K, 1, 1); `weights`: panels of (K, vectors), zero-padded; `bias`: (M,) padded alike;
    `out`: (N, M, 1, 1), whole vectors apart. Operands of `epilogue` have one element."""

    source: Tensor
    weights: Tensor
    bias: Tensor
    out: Tensor
    epilogue: Lazy
    family = "matrix-vector"

    def reads(self) -> Sequence[Tensor]:
        own = [self.source, self.weights, self.bias, *leaves(self.epilogue)]
        return list({id(t): t for t in own}.values())

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        tensors = [Leaf(t).key for t in (*self.reads(), self.out)]
        return ("matrix-vector", self.epilogue.key, sharing(self.reads(), self.epilogue), *tensors)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        lanes, depth = b.isa.lanes, self.source.shape[1]
        runs = tile_runs(-(-self.out.shape[1] // lanes), panel_vectors(b.isa))
        with b.loop(self.out.shape[0]) as n:
            for first, width, count in runs:
                with b.split(count) as panel:
                    vector = b.let(panel * width + first)
                    start = b.let(vector * (depth * lanes), "w")
                    self._panel(b, pointers, n, b.let(vector * lanes, "m"), start, width)

    def _panel(
        self, b: Builder, pointers: dict[int, Pointer], n: Any, m: Any, start: Any, width: int
    ) -> None:
        """The outputs n, m … of the panel at `start`."""
        lanes = b.isa.lanes
        chains = max(1, min(self.source.shape[1], panel_vectors(b.isa) // width))
        tile = RegisterTile(b, chains, width, lanes)
        tile.start()
        self._sum(b, pointers, tile, b.let(n * self.source.strides[0]), start)
        scope, bias = Scope(b, pointers), pointers[id(self.bias)]

        def operand(leaf: Leaf) -> Any:
            return tir.Broadcast(scope.load(leaf.tensor, 0), lanes)

        for j in range(width):
            total = bias.load(m + j * lanes, lanes)
            for chain in range(chains):
                total = total + tile.get(chain, j)
            result = evaluate(self.epilogue, scope, b.hold(total), operand)
            b.store(pointers[id(self.out)], n * self.out.strides[0] + m + j * lanes, result)

    def _sum(
        self, b: Builder, pointers: dict[int, Pointer], tile: RegisterTile, image: Any, start: Any
    ) -> None:
        lanes, (_, depth, *_) = b.isa.lanes, self.source.shape
        source, weights = pointers[id(self.source)], pointers[id(self.weights)]

        def add(k: Any, chain: int) -> None:
            scalar = tir.Broadcast(b.let(source.load(image + k * self.source.strides[1])), lanes)
            row = b.let(start + k * (tile.vectors * lanes))
            for j in range(tile.vectors):
                vector = weights.load(row + j * lanes, lanes)
                tile.set(chain, j, b.isa.multiply_add(scalar, vector, tile.get(chain, j)))

        with b.loop(depth // tile.rows) as i:
            for chain in range(tile.rows):
                add(i * tile.rows + chain, chain)
        for k in range(depth - depth % tile.rows, depth):
            add(k, 0)
