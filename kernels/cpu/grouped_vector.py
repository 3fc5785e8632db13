"""A few rows times a grouped weight, in integers.

    out[m, n] = epilogue(bias[n] + Σ_g scale[n, g] · Σ_c s[m, c] · Σ_k (code[n, k] - zero[n, g]) · q[m, k])

Activations are rounded to 16 bits, chunk by chunk (`rounded_rows.py`); sums of a chunk are exact. Vectors run
along the outputs. A panel of them reads its codes in one stream, chunk after chunk, and unpacks them once for
all rows of a tile. Every thread rounds the rows for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32, vector_type
from .code_dot import CodeDot, DotSum
from .code_registers import CodeRegisters
from .epilogue import evaluate
from .half import load_half
from .isa import Isa
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .matmul import row_operand
from .register_tile import RegisterTile
from .rounded_rows import RoundedRows
from .storing import store_first
from .tensor import Tensor

__all__ = ["GroupedTensors", "GroupedVector", "panel_vectors", "tile_rows"]


def panel_vectors(isa: Isa, rows: int) -> int:
    """Vectors of outputs in a panel."""
    wide = 4 if isa.registers >= 32 else 2
    return max(1, wide // rows)


def tile_rows(isa: Isa, rows: int) -> int:
    """Rows that are multiplied at once by what has been unpacked."""
    return min(rows, 8 if isa.registers >= 32 else 4)


@dataclass(frozen=True)
class GroupedTensors:
    """`codes` uint8 (panels, chunks, steps, vectors, octets of a step); of every panel and group, for all its
    lanes: `scales` float32, or float16 as uint16, and `zeros` uint8, None where they are all the same."""

    codes: Tensor
    scales: Tensor
    zeros: Tensor | None


@dataclass(eq=False)
class GroupedVector(Kernel):
    """`left`: (M, K) contiguous; `bias`: whole vectors of (N,) or None; `out`: (M, N)."""

    left: Tensor
    weights: GroupedTensors
    bias: Tensor | None
    out: Tensor
    form: CodeRegisters
    rounding: RoundedRows
    vectors: int
    factor: float
    epilogue: Lazy
    family = "grouped"

    def reads(self) -> Sequence[Tensor]:
        w = self.weights
        own = [self.left, w.codes, w.scales] + [t for t in (w.zeros, self.bias) if t is not None]
        return list({id(t): t for t in [*own, *leaves(self.epilogue)]}.values())

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    def scratch_bytes(self, isa: Isa) -> int:
        return 4 * self.rounding.row * self.left.shape[0]

    @property
    def key(self) -> tuple[Any, ...]:
        tensors = [Leaf(t).key for t in (*self.reads(), self.out)]
        own = (
            self.form.bits,
            self.form.levels,
            self.rounding,
            self.vectors,
            self.factor,
            self.bias is not None,
        )
        shared = sharing(self.reads(), self.epilogue)
        return (self.family, *own, self.weights.zeros is None, self.epilogue.key, shared, *tensors)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        assert scratch is not None
        rows, depth = self.left.shape
        with b.each(rows) as m:
            self.rounding.write(
                b, pointers[id(self.left)], b.let(m * depth), scratch, b.let(m * self.rounding.row)
            )
        together = tile_rows(b.isa, rows)
        full, tail = divmod(rows, together)
        for first, count, times in ((0, together, full), (full * together, tail, 1)):
            if count and times:
                with b.each(times) as block:
                    start = b.let(block * together + first, "row")
                    with b.split(self.weights.codes.shape[0]) as panel:
                        _Panel(self, b, pointers, scratch, start, count).run(panel)


class _Panel:
    """The code for one panel of outputs and a tile of rows."""

    def __init__(
        self,
        kernel: GroupedVector,
        b: Builder,
        pointers: dict[int, Pointer],
        scratch: Pointer,
        start: Any,
        rows: int,
    ) -> None:
        self.kernel, self.b, self.pointers, self.scratch = kernel, b, pointers, scratch
        self.start, self.rows, self.lanes = start, rows, b.isa.lanes
        self.dot: CodeDot = kernel.form.dot
        self.chunks = kernel.rounding.chunks

    def pointer(self, tensor: Tensor) -> Pointer:
        return self.pointers[id(tensor)]

    def run(self, panel: Any) -> None:
        k, b = self.kernel, self.b
        _, chunks, steps, vectors, octets = k.weights.codes.shape
        self.chunk_octets = steps * vectors * octets
        self.totals = RegisterTile(b, self.rows, k.vectors, self.lanes)
        self.totals.start()
        code = b.let(panel * (chunks * self.chunk_octets), "codes")
        groups = sum(count for count, _, _ in self.chunks.runs)
        scale = b.let(panel * (groups * k.vectors * self.lanes), "scales")
        x = b.let(self.start * k.rounding.row, "x")
        place, group = 0, 0
        for count, _, each in self.chunks.runs:
            with b.each(count) as i:
                first = b.let(i * each + place)
                at = b.let(scale + (i + group) * (k.vectors * self.lanes))
                self._group(
                    b.let(code + first * self.chunk_octets), at, b.let(x + first * k.rounding.pitch), each
                )
            place, group = place + count * each, group + count
        self._store(panel)

    def _group(self, code: Any, scale: Any, x: Any, chunks: int) -> None:
        """Adds a group of so many chunks to the totals."""
        b, k = self.b, self.kernel
        zeros = [self._zeros(scale + p * self.lanes) for p in range(k.vectors)]
        if chunks == 1:
            found = self._chunk(code, x, zeros)
        else:
            sums = RegisterTile(b, self.rows, k.vectors, self.lanes)
            sums.start()
            with b.loop(chunks) as c:
                part = self._chunk(
                    b.let(code + c * self.chunk_octets), b.let(x + c * k.rounding.pitch), zeros
                )
                for m in range(self.rows):
                    for p in range(k.vectors):
                        sums.set(m, p, sums.get(m, p) + part(m, p))
            found = sums.get
        for p in range(k.vectors):
            factors = b.hold(self._scales(scale + p * self.lanes))
            for m in range(self.rows):
                self.totals.set(m, p, b.isa.multiply_add(found(m, p), factors, self.totals.get(m, p)))

    def _scales(self, at: Any) -> Any:
        scales = self.pointer(self.kernel.weights.scales)
        half = self.kernel.weights.scales.dtype == "uint16"
        return load_half(self.b, scales, at, self.lanes) if half else scales.load(at, self.lanes)

    def _zeros(self, at: Any) -> Any:
        """int32, as codes in registers have them; None where they are all the same."""
        zeros = self.kernel.weights.zeros
        if zeros is None:
            return None
        wide = tir.Cast(vector_type("int32", self.lanes), self.pointer(zeros).load(at, self.lanes))
        return self.b.hold(wide - constant(self.dot.offset, "int32", self.lanes) if self.dot.offset else wide)

    def _chunk(self, code: Any, x: Any, zeros: list[Any]) -> Callable[[int, int], Any]:
        """float32 (row, vector): the sums of a chunk times its activations' scale."""
        k, b, rounding = self.kernel, self.b, self.kernel.rounding
        words = [b.let(x + m * rounding.row) for m in range(self.rows)]
        sums = [[self.dot.sum(b) for _ in range(k.vectors)] for _ in words]
        starts = [self._word(at + (rounding.scale_at + 1)) for at in words]
        for row, start in zip(sums, starts, strict=True):
            for total in row:
                total.start(int32(0) if k.weights.zeros is not None else start)
        block = min(max(self.dot.block, k.form.inputs), self.chunks.size)
        with b.each(self.chunks.size // block) as i:
            self._block(
                sums, b.let(code + i * (self.chunk_octets // (self.chunks.size // block))), words, i, block
            )
        found = []
        for m, row in enumerate(sums):
            scale = tir.Broadcast(b.let(self.scratch.load(words[m] + rounding.scale_at)), self.lanes)
            found.append(
                [self._scaled(total, zero, starts[m], scale) for total, zero in zip(row, zeros, strict=True)]
            )
        return lambda m, p: found[m][p]

    def _scaled(self, total: DotSum, zero: Any, start: Any, scale: Any) -> Any:
        whole = total.total()
        if zero is not None:
            whole = whole + zero * tir.Broadcast(start, self.lanes)
        return self.b.hold(tir.Cast(vector_type("float32", self.lanes), whole) * scale)

    def _block(self, sums: list[list[DotSum]], code: Any, words: list[Any], number: Any, size: int) -> None:
        """Adds `size` inputs of a chunk, the `number`-th such block."""
        k, b, form, dot = self.kernel, self.b, self.kernel.form, self.dot
        per_word = 4 if dot.unit == 1 else 2
        begin = [b.let(at + number * (size // per_word)) for at in words]
        part = self.chunks.size // per_word
        for step in range(size // form.inputs):
            for p in range(k.vectors):
                at = code + (step * k.vectors + p) * form.octets
                for i, register in enumerate(form.unpack(b, self.pointer(k.weights.codes), at)):
                    word = step * form.registers + i
                    for m, first in enumerate(begin):
                        x = [self._word(first + (word + j * part)) for j in range(dot.parts)]
                        sums[m][p].add(register, x)
        for row in sums:
            for total in row:
                total.settle()

    def _word(self, at: Any) -> Any:
        return self.b.let(tir.reinterpret("int32", self.scratch.load(at)))

    # ---- epilogue ---------------------------------------------------------------------------
    def _store(self, panel: Any) -> None:
        """The totals, through bias and epilogue."""
        k, b = self.kernel, self.b
        whole, ragged = divmod(k.out.shape[1], self.lanes)
        exact = k.out.shape[1] % (self.lanes * k.vectors) == 0
        for p in range(k.vectors):
            vector = b.let(panel * k.vectors + p, "v")
            if exact:
                self._store_vector(p, vector, self.lanes)
                continue
            with b.when(vector < whole):
                self._store_vector(p, vector, self.lanes)
            if ragged:
                with b.when(tir.EQ(vector, int32(whole))):
                    self._store_vector(p, vector, ragged)

    def _store_vector(self, p: int, vector: Any, keep: int) -> None:
        """The first `keep` outputs of a vector, for every row."""
        k, b, lanes = self.kernel, self.b, self.lanes
        scope, column = Scope(b, self.pointers), b.let(vector * lanes)
        bias = self.pointer(k.bias).load(column, lanes) if k.bias else None
        for m in range(self.rows):
            row = b.let(self.start + m)

            def operand(leaf: Leaf, row: Any = row) -> Any:
                return row_operand(scope, leaf, [], row, column, lanes)

            value = self.totals.get(m, p)
            if k.factor != 1:
                value = value * constant(k.factor, "float32", lanes)
            result = evaluate(k.epilogue, scope, b.hold(value if bias is None else value + bias), operand)
            store_first(b, self.pointer(k.out), row * k.out.shape[1] + column, result, lanes, keep)
