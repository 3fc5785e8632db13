"""A few rows times a palette: `out[m, n] = epilogue(bias[n] + scale[n] · Σ_k left[m, k] · lut[code(n, k)])`.

Vectors run along the outputs, which share a table; a panel of them reads its codes in one stream, an input
after the other. Codes become weights in registers, so what is read from memory is what is stored.

Where tables change along the inputs (or books are added up), a panel goes through its *segments*: the inputs
`start … start + length` with a table of their own. Each begins at a whole group of codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32
from .code_lookup import TableLookup
from .code_order import code_order
from .epilogue import evaluate
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .matmul import row_operand
from .register_tile import RegisterTile
from .storing import store_first
from .tensor import Tensor

__all__ = ["PaletteVector", "Segments", "panel_vectors"]

_SUMS = 4  # vectors of accumulators that hide the latency of multiply-adds


def panel_vectors(lookup: TableLookup) -> int:
    """Vectors of outputs in a panel: those that one step of the decoding gives, else one."""
    return 4 if lookup.isa.lanes < 16 and lookup.vectors % 4 == 0 else 1


@dataclass(frozen=True)
class Segments:
    """Runs of inputs with one table each: every book has all `inputs`, cut at multiples of `length`."""

    books: int
    inputs: int
    length: int

    @property
    def runs(self) -> list[tuple[int, int]]:
        """(segments, length) of one book: the whole ones and the last."""
        whole, rest = divmod(self.inputs, self.length)
        return [run for run in ((whole, self.length), (1, rest)) if run[0] and run[1]]

    @property
    def count(self) -> int:
        """Segments of all books."""
        return self.books * sum(count for count, _ in self.runs)


@dataclass(eq=False)
class PaletteVector(Kernel):
    """`left`: (M, K) contiguous; `codes`: panels, segments, groups of `lookup`; `tables`: (T, segments) of
    `lookup`, each for `group` outputs; `scale`, `bias`: whole vectors of (N,) or None; `out`: (M, N)."""

    left: Tensor
    codes: Tensor
    tables: Tensor
    scale: Tensor | None
    bias: Tensor | None
    out: Tensor
    lookup: TableLookup
    segments: Segments
    group: int
    epilogue: Lazy
    family = "palette-vector"

    def reads(self) -> Sequence[Tensor]:
        own = [self.left, self.codes, self.tables] + [t for t in (self.scale, self.bias) if t is not None]
        return list({id(t): t for t in [*own, *leaves(self.epilogue)]}.values())

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        tensors = [Leaf(t).key for t in (*self.reads(), self.out)]
        form = (self.lookup.key, self.segments, self.group, self.scale is not None, self.bias is not None)
        return (self.family, *form, self.epilogue.key, sharing(self.reads(), self.epilogue), *tensors)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        width = panel_vectors(self.lookup)
        with b.split(-(-self.out.shape[1] // (width * b.isa.lanes))) as panel:
            work = _Panel(self, b, pointers, panel, width)
            work.sum()
            work.store()


class _Panel:
    """The code for one panel of outputs, all rows of activations."""

    def __init__(
        self, kernel: PaletteVector, b: Builder, pointers: dict[int, Pointer], panel: Any, width: int
    ) -> None:
        self.kernel, self.b, self.pointers, self.width = kernel, b, pointers, width
        self.rows = kernel.out.shape[0]
        self.order = code_order(kernel.lookup, width)
        self.chains = max(1, min(self.order.steps, _SUMS // (width * self.rows)))
        self.panel = panel
        self.tile = RegisterTile(b, self.rows * self.chains, width, b.isa.lanes)

    def pointer(self, tensor: Tensor) -> Pointer:
        return self.pointers[id(tensor)]

    def sum(self) -> None:
        """All segments into the accumulators."""
        k, b = self.kernel, self.b
        self.tile.start()
        lookup, segments = k.lookup, k.segments
        book_items = sum(n * self.order.groups(length) for n, length in segments.runs) * lookup.items
        code = b.let(self.panel * (segments.books * book_items), "c")
        table = int32(0)
        if k.group < k.out.shape[1]:
            number = tir.truncdiv(self.panel * (self.width * b.isa.lanes), int32(k.group))
            table = b.let(number * (segments.count * lookup.table_items), "t")
        for book in range(segments.books):
            self._book(
                code + book * book_items,
                table + book * (segments.count // segments.books) * lookup.table_items,
            )

    def _book(self, code: Any, table: Any) -> None:
        lookup, first, tables = self.kernel.lookup, 0, 0
        for count, length in self.kernel.segments.runs:
            items = self.order.groups(length) * lookup.items
            with self.b.loop(count) as i:
                self._segment(
                    self.b.let(code + i * items),
                    table + (tables + i) * lookup.table_items,
                    first + i * length,
                    length,
                )
            code, tables, first = code + count * items, tables + count, first + count * length

    def _segment(self, code: Any, table: Any, first: Any, length: int) -> None:
        """`length` inputs from `first`, their codes at `code`."""
        k, b = self.kernel, self.b
        opened = k.lookup.open(b, self.pointer(k.tables), b.let(table))
        for visit in self.order.visits(length):
            with b.loop(visit.groups) as g:
                at = b.let(code + (g + visit.group) * k.lookup.items)
                self._group(at, opened, b.let(first + visit.first + g * visit.stride), visit.steps)

    def _group(self, code: Any, table: Any, first: Any, steps: range) -> None:
        """The inputs from `first` whose codes are these steps of one group."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        entry = k.lookup.look(b, self.pointer(k.codes), code, table)
        left = self.pointer(k.left)
        for i, step in enumerate(steps):
            scalars = [
                tir.Broadcast(left.load(first + (m * k.left.shape[1] + i)), lanes) for m in range(self.rows)
            ]
            for j in range(self.width):
                weights = entry(step * self.width + j)
                weights = weights if self.rows == 1 else b.hold(weights)
                for m, scalar in enumerate(scalars):
                    row = m * self.chains + i % self.chains
                    self.tile.set(row, j, b.isa.multiply_add(weights, scalar, self.tile.get(row, j)))

    def store(self) -> None:
        """What the accumulators hold, through scale, bias and epilogue."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        outputs = k.out.shape[1]
        whole, ragged = divmod(outputs, lanes)
        exact = outputs % (lanes * self.width) == 0
        for j in range(self.width):
            vector = b.let(self.panel * self.width + j, "v")
            totals = [b.hold(self._total(m, j)) for m in range(self.rows)]
            if exact:
                self._store(totals, vector, lanes)
                continue
            with b.when(vector < whole):
                self._store(totals, vector, lanes)
            if ragged:
                with b.when(tir.EQ(vector, int32(whole))):
                    self._store(totals, vector, ragged)

    def _total(self, m: int, j: int) -> Any:
        first = m * self.chains
        total = self.tile.get(first, j)
        for chain in range(1, self.chains):
            total = total + self.tile.get(first + chain, j)
        return total

    def _store(self, totals: Sequence[Any], vector: Any, keep: int) -> None:
        """The first `keep` outputs of a vector, for every row."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        scope, column = Scope(b, self.pointers), b.let(vector * lanes)
        scale = self.pointer(k.scale).load(column, lanes) if k.scale else None
        bias = self.pointer(k.bias).load(column, lanes) if k.bias else constant(0.0, "float32", lanes)
        for m, total in enumerate(totals):

            def operand(leaf: Leaf, row: int = m) -> Any:
                return row_operand(scope, leaf, [], int32(row), column, lanes)

            value = total + bias if scale is None else b.isa.multiply_add(total, scale, bias)
            result = evaluate(k.epilogue, scope, b.hold(value), operand)
            store_first(b, self.pointer(k.out), m * k.out.shape[1] + column, result, lanes, keep)
