"""A few rows times surviving groups in 4 bits.

    out[m, n] = epilogue(bias[n] + Σ_groups scale · Σ_k (q_k - zero) · left[m, column · G + k])

An output's groups are multiplied in registers as they are stored, a vector along the inputs; lanes are summed
once an output. Every thread takes a run of outputs whose groups are its share of all groups, and each
output's sum has one order: results are the same bits for any number of threads.

Scratch, of each thread: of every row the groups of activations, zero beyond the last, each followed by its
lane-wise sum where zero points are taken away by group; then, of one output, for each of its groups the
scale, the place of its activations, and scale times zero point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32, vector_type
from .epilogue import Accumulator, evaluate
from .group_decoding import decoding_for
from .group_levels import GroupLayout
from .isa import Isa
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .matmul import row_operand
from .register_tile import RegisterTile
from .tensor import Tensor

__all__ = ["GroupSparseVector", "GroupTensors"]

_LARGEST_OFFSET = (1 << 28) - 1  # in scratch, in floats
_SUMS = 16  # vectors of accumulators; several of a row hide the latency of multiply-adds


@dataclass(frozen=True)
class GroupTensors:
    """`PackedGroups` as tensors, and the tables of their decoding, if it has any."""

    words: Tensor
    scales: Tensor
    places: Tensor
    starts: Tensor
    tables: Tensor | None


@dataclass(eq=False)
class GroupSparseVector(Kernel):
    """`left`: (M, K) contiguous; `out`: (M, N); `most` groups at most has an output, padding included."""

    left: Tensor
    weights: GroupTensors
    bias: Tensor | None
    out: Tensor
    size: int
    most: int
    epilogue: Lazy
    family = "group-sparse"

    def reads(self) -> Sequence[Tensor]:
        w = self.weights
        own = [self.left, w.words, w.scales, w.places, w.starts]
        own += [t for t in (w.tables, self.bias) if t is not None]
        return list({id(t): t for t in [*own, *leaves(self.epilogue)]}.values())

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def across(self) -> int:
        """Groups along the inputs."""
        return -(-self.left.shape[1] // self.size)

    def scratch_bytes(self, isa: Isa) -> int:
        rows = min(_most_rows(isa), self.left.shape[0])
        return 4 * (rows * self.across * self.pitch(isa) + 3 * self.slots(isa))

    def pitch(self, isa: Isa) -> int:
        """Floats of a group of activations in scratch."""
        return self.size + (0 if decoding_for(isa, self.size).subtracts_zero else isa.lanes)

    def slots(self, isa: Isa) -> int:
        """Groups of an output in scratch, whole vectors."""
        return -(-self.most // isa.lanes) * isa.lanes

    @property
    def key(self) -> tuple[Any, ...]:
        tensors = [Leaf(t).key for t in (*self.reads(), self.out)]
        shared = sharing(self.reads(), self.epilogue)
        options = (self.size, self.most, self.bias is not None, self.epilogue.key)
        return ("group-sparse", *options, shared, *tensors)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        assert scratch is not None
        rows = self.out.shape[0]
        work = _Work(self, b, pointers, scratch)
        first, last = work.share()
        most = _most_rows(b.isa)
        full, tail = divmod(rows, most)
        if full:
            with b.loop(full) as block:
                work.rows(b.let(block * most, "row"), most, first, last)
        if tail:
            work.rows(int32(full * most), tail, first, last)


class _Work:
    def __init__(
        self, kernel: GroupSparseVector, b: Builder, pointers: dict[int, Pointer], scratch: Pointer
    ) -> None:
        self.kernel, self.b, self.pointers, self.scratch = kernel, b, pointers, scratch
        self.layout = GroupLayout(kernel.size, b.isa.lanes)
        self.decoding = decoding_for(b.isa, kernel.size)
        self.pitch = kernel.pitch(b.isa)
        self.depth = kernel.across * self.pitch  # of a row
        self.scales_at = min(_most_rows(b.isa), kernel.left.shape[0]) * self.depth
        self.places_at = self.scales_at + kernel.slots(b.isa)
        self.zeros_at = self.places_at + kernel.slots(b.isa)
        tables = kernel.weights.tables
        self.tables = None if tables is None else self.pointer(tables)

    def pointer(self, tensor: Tensor) -> Pointer:
        return self.pointers[id(tensor)]

    # ---- shares -----------------------------------------------------------------------------
    def share(self) -> tuple[Any, Any]:
        """The outputs from the first to before the last of this thread."""
        k, b = self.kernel, self.b
        outputs = k.out.shape[1]
        total = b.let(self.pointer(k.weights.starts).load(outputs), "total")
        per, rest = tir.truncdiv(total, b.threads), tir.truncmod(total, b.threads)
        per, rest = b.let(per), b.let(rest)

        def begin(thread: Any) -> Any:
            return b.let(thread * per + tir.min(thread, rest))

        first = self._output_at(begin(b.thread))
        after = self._output_at(begin(b.thread + 1))
        # outputs without groups may be the last ones
        return first, b.let(tir.Select(tir.EQ(b.thread + 1, b.threads), int32(outputs), after), "last")

    def _output_at(self, step: Any) -> Any:
        """The first output whose groups begin at `step` or later."""
        b, starts = self.b, self.pointer(self.kernel.weights.starts)
        outputs = self.kernel.out.shape[1]
        bounds = b.stack("int32", 2)
        b.store(bounds, 0, int32(0))
        b.store(bounds, 1, int32(outputs))
        with b.loop(outputs.bit_length() + 1):
            middle = b.let(tir.truncdiv(bounds.load(0) + bounds.load(1), int32(2)))
            before = b.let(starts.load(middle) < step)
            low = b.let(tir.Select(before, middle + 1, bounds.load(0)))
            high = b.let(tir.Select(before, bounds.load(1), middle))
            b.store(bounds, 0, low)
            b.store(bounds, 1, high)
        return b.let(bounds.load(1), "output")

    def rows(self, start: Any, count: int, first: Any, last: Any) -> None:
        """`count` rows from `start`, of the outputs from the `first` to before the `last`."""
        self.prepare(start, count)
        with self.b.loop(self.b.let(last - first), first) as n:
            self.output(n, start, count)
        self.finish(start, count, first, last)

    # ---- activations ------------------------------------------------------------------------
    def prepare(self, start: Any, count: int) -> None:
        """Copies of the rows, zero beyond the last input, and lane-wise sums of each group."""
        k, b, size = self.kernel, self.b, self.kernel.size
        whole, rest = divmod(k.left.shape[1], size)
        for m in range(count):
            source = b.let((start + m) * k.left.shape[1], "source")
            with b.loop(whole) as group:
                self._prepare_group(m, group, b.let(source + group * size), size)
            if rest:
                self._prepare_group(m, int32(whole), b.let(source + whole * size), rest)

    def _prepare_group(self, m: int, group: Any, source: Any, count: int) -> None:
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        left, total = self.pointer(k.left), None
        at = b.let(group * self.pitch + m * self.depth)
        for vector in range(self.layout.vectors):
            offset, have = at + vector * lanes, max(0, min(lanes, count - vector * lanes))
            if have < lanes:
                b.store(self.scratch, offset, constant(0.0, "float32", lanes))
            for lane in range(have if have < lanes else 0):
                b.store(self.scratch, offset + lane, left.load(source + (vector * lanes + lane)))
            held = left.load(source + vector * lanes, lanes) if have == lanes else None
            x = b.hold(self.scratch.load(offset, lanes) if held is None else held)
            total = x if total is None else b.hold(total + x)
            factor = self.decoding.factor(vector)
            b.store(self.scratch, offset, x if factor == 1 else x * constant(factor, "float32", lanes))
        if not self.decoding.subtracts_zero:
            b.store(self.scratch, at + k.size, total)

    # ---- outputs ----------------------------------------------------------------------------
    def output(self, n: Any, start: Any, count: int) -> None:
        """The sum of output `n` in `count` rows from `start`, without the epilogue."""
        k, b, layout = self.kernel, self.b, self.layout
        starts = self.pointer(k.weights.starts)
        begin = b.let(starts.load(n), "begin")
        steps = b.let(starts.load(n + 1) - begin, "steps")
        self._describe(b.let(begin * layout.groups), b.let(steps * layout.groups))
        tile = RegisterTile(b, count, min(4, _SUMS // count), b.isa.lanes)
        tile.start()
        with b.loop(steps) as step:
            self._step(tile, b.let(begin + step), b.let(step * layout.groups), count)
        for m in range(count):
            total = tile.get(m, 0)
            for j in range(1, tile.vectors):
                total = total + tile.get(m, j)
            b.store(self.pointer(k.out), n + (start + m) * k.out.shape[1], self._lane_sum(b.hold(total)))

    def _describe(self, first: Any, count: Any) -> None:
        """Scales, places and zero points of `count` groups from the `first`, in scratch."""
        b, lanes, weights = self.b, self.b.isa.lanes, self.kernel.weights
        whole = vector_type("int32", lanes)
        with b.loop(b.let(tir.truncdiv(count + (lanes - 1), int32(lanes)))) as i:
            at = b.let(first + i * lanes)
            scale = b.hold(_widened(b, self.pointer(weights.scales), at, lanes))
            place = b.hold(tir.Cast(whole, self.pointer(weights.places).load(at, lanes)))
            b.store(self.scratch, i * lanes + self.scales_at, self._factored(scale))
            if not self.decoding.subtracts_zero:
                column, kind = (
                    tir.shift_right(place, constant(4, "int32", lanes)),
                    vector_type("float32", lanes),
                )
                offset = column * constant(self.pitch, "int32", lanes)
                b.store(self.scratch, i * lanes + self.places_at, tir.reinterpret(kind, offset))
                zero = tir.Cast(kind, tir.bitwise_and(place, constant(15, "int32", lanes)))
                negative = constant(0.0, "float32", lanes) - zero
                b.store(self.scratch, i * lanes + self.zeros_at, scale * negative)

    def _factored(self, scale: Any) -> Any:
        """Scales of neighbouring groups, as levels in their places of a step need them."""
        lanes = self.b.isa.lanes
        factors = [self.decoding.scale_factor(g % self.layout.groups) for g in range(lanes)]
        if all(factor == 1 for factor in factors):
            return scale
        values = [constant(factor, "float32") for factor in factors]
        return scale * tir.Shuffle(values, [int32(i) for i in range(lanes)])

    def _step(self, tile: RegisterTile, step: Any, slot: Any, count: int) -> None:
        """Adds the groups of a step; `slot` is their number among the output's groups."""
        k, b, lanes, layout = self.kernel, self.b, self.b.isa.lanes, self.layout
        words, places = self.pointer(k.weights.words), self.pointer(k.weights.places)
        base = b.let(step * (layout.registers * lanes))
        held = [b.hold(words.load(base + r * lanes, lanes)) for r in range(layout.registers)]
        for group in range(layout.groups):
            zero = None
            if self.decoding.subtracts_zero:
                place = b.let(tir.Cast("int32", places.load(step * layout.groups + group)))
                zero = b.let(tir.bitwise_and(place, int32(15)))
                at = b.let(tir.shift_right(place, int32(4)) * self.pitch)
            else:
                found = tir.reinterpret("int32", self.scratch.load(slot + (self.places_at + group)))
                # known not to be negative, what is added to it goes into instructions
                at = b.let(tir.bitwise_and(found, int32(_LARGEST_OFFSET)))
            rows = [self._row(m, at) for m in range(count)]
            factor, j = slot + (self.scales_at + group), group % tile.vectors
            if layout.vectors < count:  # one multiplication a level is less than one a row
                scaled = (self._spread(factor), [tile.get(m, j) for m in range(count)])
                totals = self.decoding.product(b, self.tables, held.__getitem__, group, zero, rows, scaled)
                for m, total in enumerate(totals):
                    tile.set(m, j, total)
            else:
                products = self.decoding.product(b, self.tables, held.__getitem__, group, zero, rows)
                self._add(tile, j, products, factor)
            if not self.decoding.subtracts_zero:
                sums = [row(layout.vectors) for row in rows]
                self._add(tile, (group + 1) % tile.vectors, sums, slot + (self.zeros_at + group))

    def _add(self, tile: RegisterTile, j: int, vectors: list[Any], factor: Any) -> None:
        spread = self._spread(factor)
        for m, vector in enumerate(vectors):
            tile.set(m, j, self.b.isa.multiply_add(spread, vector, tile.get(m, j)))

    def _spread(self, factor: Any) -> Any:
        return tir.Broadcast(self.b.let(self.scratch.load(factor)), self.b.isa.lanes)

    def _row(self, m: int, at: Any) -> Callable[[int], Any]:
        lanes = self.b.isa.lanes
        return lambda v: self.scratch.load(at + (m * self.depth + v * lanes), lanes)

    def _lane_sum(self, value: Any) -> Any:
        """The sum of all lanes, in halves."""
        b, lanes = self.b, self.b.isa.lanes
        while lanes > 1:
            slot = b.stack("float32", lanes)
            b.store(slot, 0, value)
            lanes //= 2
            value = b.let(slot.load(0, lanes) + slot.load(lanes, lanes))
        return value

    # ---- epilogue ---------------------------------------------------------------------------
    def finish(self, start: Any, count: int, first: Any, last: Any) -> None:
        """Bias and epilogue on this thread's outputs, whole vectors where they are."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        if k.bias is None and isinstance(k.epilogue, Accumulator):
            return
        vector = b.let(tir.truncdiv(first + (lanes - 1), int32(lanes)))
        vectors = b.let(tir.max(tir.truncdiv(last, int32(lanes)) - vector, int32(0)))
        head = b.let(tir.min(last, vector * lanes))
        tail = b.let(tir.max(head, (vector + vectors) * lanes))
        for row in [b.let(start + m) for m in range(count)]:
            with b.loop(b.let(head - first), first) as n:
                self._finish(row, n, 1)
            with b.loop(vectors, vector) as i:
                self._finish(row, b.let(i * lanes), lanes)
            with b.loop(b.let(last - tail), tail) as n:
                self._finish(row, n, 1)

    def _finish(self, row: Any, column: Any, lanes: int) -> None:
        k, b = self.kernel, self.b
        scope, out, index = Scope(b, self.pointers), self.pointer(k.out), list[Any]()
        offset = b.let(column + row * k.out.shape[1])
        total = out.load(offset, lanes)
        if k.bias is not None:
            total = total + self.pointer(k.bias).load(column, lanes)
        result = evaluate(
            k.epilogue,
            scope,
            b.hold(total),
            lambda leaf: row_operand(scope, leaf, index, row, column, lanes),
        )
        b.store(out, offset, result)


def _most_rows(isa: Isa) -> int:
    """Rows that use a level while it is in a register."""
    return 8 if isa.registers >= 32 else 4


def _widened(b: Builder, scales: Pointer, offset: Any, lanes: int) -> Any:
    """float16 as float32: by shifts where the processor has no such conversion."""
    target = b.isa.target
    if target.family in ("arm64", "arm") or (target.family == "x86" and lanes >= 8):
        halves = tir.reinterpret(vector_type("float16", lanes), scales.load(offset, lanes))
        return tir.Cast(vector_type("float32", lanes), halves)
    wide = tir.Cast(vector_type("int32", lanes), scales.load(offset, lanes))
    shifted = tir.shift_left(wide, constant(13, "int32", lanes))  # the exponent is 112 too small
    return tir.reinterpret(vector_type("float32", lanes), shifted) * constant(2.0**112, "float32", lanes)
