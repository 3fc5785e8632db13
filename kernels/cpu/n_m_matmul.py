"""Rows times a weight that stores N of every M inputs.

    out[m, n] = epilogue(bias[n] + Σ_k left[m, k] · w[k, n])

Vectors run along the outputs: a stored weight is multiplied with the activation that belongs to its position,
picked out of the M activations of its group (`n_m_picking.py`):

    acc[j] += values[g, s, j] * pick(x[g * M : (g + 1) * M], positions[g, s, j])      s < N
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, int32
from .epilogue import evaluate
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .matmul import row_operand
from .n_m_picking import NMForm, Picking, picking_for
from .register_tile import RegisterTile, tile_runs
from .storing import store_first
from .tensor import Tensor

__all__ = ["NMMatmul"]


@dataclass(eq=False)
class NMMatmul(Kernel):
    """`left`: (M, K) contiguous; `values`, `words`: as `pack_values` gives them; `out`: (M, N)."""

    left: Tensor
    values: Tensor
    words: Tensor
    table: Tensor | None
    bias: Tensor | None
    out: Tensor
    form: NMForm
    tile: tuple[int, int]
    epilogue: Lazy
    family = "n-m"

    def reads(self) -> Sequence[Tensor]:
        own = [self.left, self.values, self.words]
        own += [t for t in (self.table, self.bias) if t is not None]
        return list({id(t): t for t in [*own, *leaves(self.epilogue)]}.values())

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        tensors = [Leaf(t).key for t in (*self.reads(), self.out)]
        shared = sharing(self.reads(), self.epilogue)
        options = (self.form, self.tile, self.bias is not None, self.epilogue.key)
        return ("n-m", *options, shared, *tensors)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        work = _Work(self, b, pointers)
        rows, outputs = self.out.shape
        full, tail = divmod(rows, self.tile[0])
        blocks = full + bool(tail)
        for first, width, count in tile_runs(-(-outputs // b.isa.lanes), self.tile[1]):
            with b.split_grid(count, blocks) as (t, block, some):
                vector = b.let(t * width + first)
                if full:
                    end = b.let(tir.min(block + int32(some), int32(full)))
                    with b.loop(b.let(end - block), block) as i:
                        work.block(b.let(i * self.tile[0]), self.tile[0], vector, width)
                if tail:
                    with b.when(block + int32(some) > full):
                        work.block(int32(full * self.tile[0]), tail, vector, width)


class _Work:
    def __init__(self, kernel: NMMatmul, b: Builder, pointers: dict[int, Pointer]) -> None:
        self.kernel, self.b, self.pointers = kernel, b, pointers
        picking = picking_for(b.isa, kernel.form)
        assert picking is not None
        self.picking: Picking = picking

    def block(self, row: Any, height: int, vector: Any, width: int) -> None:
        """`height` rows from `row` times `width` vectors of outputs from `vector`."""
        k, b, lanes, form = self.kernel, self.b, self.b.isa.lanes, self.kernel.form
        tile = RegisterTile(b, height, width, lanes)
        bias = self.pointers[id(k.bias)] if k.bias else None
        tile.start((lambda r, j: bias.load((vector + j) * lanes, lanes)) if bias else None)
        values = b.let(vector * (lanes * form.steps), "values")
        words = b.let(vector * self.picking.items, "words")
        starts = [b.let((row + r) * k.left.shape[1]) for r in range(height)]
        chunk = self.picking.chunk
        whole, rest = divmod(form.groups, chunk)
        value_step, word_step = chunk * form.kept * width * lanes, self.picking.chunk_items * width
        with b.loop(whole) as i:
            at, read = b.let(values + i * value_step), b.let(words + i * word_step)
            self._chunk(tile, chunk, at, read, starts, i * (chunk * form.of))
        if rest:
            at, read = b.let(values + whole * value_step), b.let(words + whole * word_step)
            self._chunk(tile, rest, at, read, starts, int32(whole * chunk * form.of))
        tile.finish(lambda r, j, value: self._store(value, b.let(row + r), vector + j))

    def _chunk(
        self, tile: RegisterTile, groups: int, values: Any, words: Any, starts: list[Any], column: Any
    ) -> None:
        """Adds `groups` groups whose positions begin at `words`."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        table = None if k.table is None else self.pointers[id(k.table)]
        left, value_at = self.pointers[id(k.left)], self.pointers[id(k.values)]
        index = self.picking.indices(b, self.pointers[id(k.words)], table, words, tile.vectors)
        for group in range(groups):
            first = column + group * k.form.of
            rows = [self.picking.row(b, left, start + first) for start in starts]
            for step in range(group * k.form.kept, (group + 1) * k.form.kept):
                for j in range(tile.vectors):
                    found = index(step, j)
                    weight = b.hold(value_at.load(values + (step * tile.vectors + j) * lanes, lanes))
                    for r, row in enumerate(rows):
                        picked = self.picking.pick(row, found)
                        tile.set(r, j, b.isa.multiply_add(picked, weight, tile.get(r, j)))

    def _store(self, value: Any, row: Any, vector: Any) -> None:
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        scope, out = Scope(b, self.pointers), self.pointers[id(k.out)]
        index: list[Any] = []
        column = b.let(vector * lanes)
        result = evaluate(
            k.epilogue, scope, value, lambda leaf: row_operand(scope, leaf, index, row, column, lanes)
        )
        offset, outputs = b.let(row * k.out.shape[1] + column), k.out.shape[1]
        if not outputs % lanes:
            b.store(out, offset, result)
            return
        result = b.hold(result)
        with b.when(column + lanes > outputs):
            store_first(b, out, offset, result, lanes, outputs % lanes)
        with b.when(column + lanes <= outputs):
            b.store(out, offset, result)
