"""Attention of several heads in one kernel: softmax(scale · Q Kᵀ + mask) V, a few queries at a time.

The scores of a tile of queries stay in scratch, transposed: queries are the lanes, keys the rows. So softmax
needs no sums across lanes, and both products read their scalars and vectors in place. Only row-major queries
are turned first, in registers.

    s[j, i] = scale · Σ_d k[j, d] · q[i, d] + mask[i, j]      p = exp(s - max_j s) / Σ_j exp(s - max_j s)
    out[i, d] = Σ_j p[j, i] · v[j, d]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .attention_tile import AttentionTile
from .builder import Builder, Pointer, int32
from .isa import Isa
from .kernel import Kernel
from .lazy import Leaf
from .register_tile import best_tile
from .tensor import Tensor

__all__ = ["Attention"]


@dataclass(eq=False)
class Attention(Kernel):
    """`query`, `key_`, `value`, `out`: (N, heads, sequence, width);

    each has stride 1 along width or along the sequence, value and out along the same axis. Where it is the
    sequence, N is 1 and planes are padded to whole vectors. `mask`: broadcast to (N, heads, queries, keys).
    """

    query: Tensor
    key_: Tensor
    value: Tensor
    mask: Tensor | None
    out: Tensor
    scale: float
    family = "attention"

    def reads(self) -> Sequence[Tensor]:
        own = [self.query, self.key_, self.value, *([] if self.mask is None else [self.mask])]
        return list({id(t): t for t in own}.values())

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def keys(self) -> int:
        return self.key_.shape[2]

    @property
    def queries(self) -> int:
        return self.query.shape[2]

    @property
    def turns_queries(self) -> bool:
        return self.query.strides[3] == 1

    @property
    def in_planes(self) -> bool:
        """Whether values and results lie with the sequence side by side."""
        return self.value.strides[3] != 1

    def tile(self, isa: Isa) -> tuple[int, int]:
        """Keys × vectors of queries of the scores' accumulators."""
        vectors = min(2, -(-self.queries // isa.lanes))
        rows = best_tile(isa, self.keys, vectors, most_vectors=vectors)[0]
        return rows, vectors

    def scratch_bytes(self, isa: Isa) -> int:
        """The tile's scores, its turned queries, and the inverse sums."""
        depth = self.query.shape[3] if self.turns_queries else 0
        row = self.tile(isa)[1] * isa.lanes
        return 4 * row * (self.keys + -(-depth // isa.lanes) * isa.lanes + 1)

    @property
    def key(self) -> tuple[Any, ...]:
        tensors = [Leaf(t).key for t in (self.query, self.key_, self.value, self.out)]
        order = {id(t): i for i, t in enumerate(self.reads())}
        shared = tuple(order[id(t)] for t in (self.query, self.key_, self.value))
        mask = None if self.mask is None else (Leaf(self.mask).key, order[id(self.mask)])
        return ("attention", self.scale, mask, shared, *tensors)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        assert scratch is not None
        batch, heads = self.out.shape[:2]
        step = self.tile(b.isa)[1] * b.isa.lanes
        tiles = -(-self.queries // step)
        with b.split(batch * heads * tiles) as unit:
            head = b.let(tir.truncdiv(unit, int32(tiles)))
            n, h = b.let(tir.truncdiv(head, int32(heads))), b.let(tir.truncmod(head, int32(heads)))
            first = b.let((unit - head * tiles) * step)
            AttentionTile(self, b, pointers, scratch, n, h, first).compute()
