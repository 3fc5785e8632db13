"""A few rows times an spqr weight: `out[m, n] = epilogue(bias[n] + Σ_k left[m, k] · w[n, k])`.

With the scale s and zero z of each group of inputs, which leaves one multiply-add for each weight,

    Σ left[k] · s · (code[k] - z)  =  s · 2ⁿ · (Σ left[k] · (1 + code[k] / 2ⁿ)  -  (1 + z / 2ⁿ) · Σ left[k])

where 1 + code / 2ⁿ is the code in the highest bits of a mantissa: no conversion. s · 2ⁿ and z / 2ⁿ are what
the grids decode to, by their factors.

Vectors run along the outputs. Codes of 32 inputs are n words of 32 bits for each output; scales and zeros of
a vector of outputs share a grid, so that its four numbers are scalars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from ..group_grid import GroupForm
from .builder import Builder, Pointer, constant, int32
from .epilogue import evaluate
from .half import load_half
from .isa import Isa
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .matmul import row_operand
from .register_tile import RegisterTile
from .storing import store_first
from .tensor import Tensor

__all__ = ["CHUNK", "SpqrVector"]

CHUNK = 32
"""Inputs whose codes are whole words."""
_SUMS = 2  # vectors of accumulators: groups overlap, which hides the latency of multiply-adds


@dataclass(eq=False)
class SpqrVector(Kernel):
    """`left`: (M, K) contiguous; `codes`: int32 (panels, chunks, n, lanes); `stats`: uint8 (panels, groups,
    lanes), a scale's number below a zero's; `grids`: float16 as uint16 (panels of the grid, groups, 4);
    `factors`: (4,), of the grids' numbers; `bias`: whole vectors of (N,) or None; `out`: (M, N)."""

    left: Tensor
    codes: Tensor
    stats: Tensor
    grids: Tensor
    factors: Tensor
    bias: Tensor | None
    out: Tensor
    form: GroupForm
    epilogue: Lazy
    width: int = 1  # panels that are computed together and share a grid; as many are whole
    family = "spqr-vector"

    def __post_init__(self) -> None:
        self.macs = self.out.size * self.left.shape[1]

    def reads(self) -> Sequence[Tensor]:
        own = [self.left, self.codes, self.stats, self.grids, self.factors]
        own += [self.bias] if self.bias is not None else []
        return list({id(t): t for t in [*own, *leaves(self.epilogue)]}.values())

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def chunks(self) -> int:
        """Chunks that hold the inputs, whole groups at the end."""
        span = max(CHUNK, self.form.group)
        return -(-self.left.shape[1] // span) * span // CHUNK

    @property
    def groups(self) -> int:
        """Groups in the chunks."""
        return self.chunks * CHUNK // self.form.group

    def scratch_bytes(self, isa: Isa) -> int:
        return 4 * self.out.shape[0] * (self.chunks * CHUNK + self.groups)

    @property
    def key(self) -> tuple[Any, ...]:
        tensors = [Leaf(t).key for t in (*self.reads(), self.out)]
        own = (self.family, self.form, self.width, self.bias is not None, self.epilogue.key)
        return (*own, sharing(self.reads(), self.epilogue), *tensors)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        assert scratch is not None
        _copy_left(self, b, pointers[id(self.left)], scratch)
        with b.split(-(-self.out.shape[1] // (b.isa.lanes * self.width))) as part:
            work = _Panel(self, b, pointers, scratch, b.let(part * self.width, "panel"))
            work.sum()
            work.store()


def _copy_left(kernel: SpqrVector, b: Builder, left: Pointer, scratch: Pointer) -> None:
    """Rows of the left side, zeros behind them up to whole chunks; then the sum of each group of each row."""
    rows, depth = kernel.left.shape
    width, groups = kernel.chunks * CHUNK, kernel.groups
    for m in range(rows):
        with b.loop(depth) as k:
            b.store(scratch, k + m * width, left.load(k + m * depth))
        if width > depth:
            with b.loop(width - depth, depth) as k:
                b.store(scratch, k + m * width, constant(0.0, "float32"))
    total = b.stack("float32", 1)
    with b.loop(rows * groups) as g:
        b.store(total, 0, constant(0.0, "float32"))
        with b.loop(kernel.form.group) as i:
            b.store(total, 0, total.load(0) + scratch.load(g * kernel.form.group + i))
        b.store(scratch, g + rows * width, total.load(0))


class _Panel:
    """The code for a few vectors of outputs from that of `panel`, all rows of activations."""

    def __init__(
        self, kernel: SpqrVector, b: Builder, pointers: dict[int, Pointer], scratch: Pointer, panel: Any
    ) -> None:
        self.kernel, self.b, self.pointers, self.scratch, self.panel = kernel, b, pointers, scratch, panel
        self.rows = kernel.out.shape[0]
        self.sums = RegisterTile(b, self.rows, kernel.width, b.isa.lanes)
        self.chains = max(1, _SUMS // (self.rows * kernel.width))
        self.dots = RegisterTile(b, self.rows * self.chains, kernel.width, b.isa.lanes)

    def pointer(self, tensor: Tensor) -> Pointer:
        return self.pointers[id(tensor)]

    def sum(self) -> None:
        """All groups into the accumulators."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        self.sums.start()
        group, bits = k.form.group, k.form.bits
        code = b.let(self.panel * (k.chunks * bits * lanes), "c")
        stat = b.let(self.panel * (k.groups * lanes), "st")
        grid = b.let(tir.truncdiv(self.panel * lanes, int32(k.form.rows)) * (k.groups * 4), "gr")
        with b.loop(k.chunks * CHUNK // max(group, CHUNK)) as span:
            if group >= CHUNK:
                self._long_group(span, code, stat, grid)
                return
            words = self._words(b.let(code + span * (bits * lanes)))
            for part in range(CHUNK // group):
                number = b.let(span * (CHUNK // group) + part, "g")
                self.dots.start()
                self._dot(words, part * group, group, b.let(number * group))
                self._add(number, stat, grid)

    def _long_group(self, number: Any, code: Any, stat: Any, grid: Any) -> None:
        """A group of one chunk or several."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        chunks, bits = k.form.group // CHUNK, k.form.bits
        self.dots.start()
        with b.loop(chunks) as i:
            chunk = b.let(number * chunks + i)
            words = self._words(b.let(code + chunk * (bits * lanes)))
            self._dot(words, 0, CHUNK, b.let(chunk * CHUNK))
        self._add(number, stat, grid)

    def _words(self, at: Any) -> list[list[Any]]:
        """The words of a chunk, for each of the panels."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        codes, pitch = self.pointer(k.codes), k.chunks * k.form.bits * lanes
        return [
            [b.hold(codes.load(at + (v * pitch + i * lanes), lanes)) for i in range(k.form.bits)]
            for v in range(k.width)
        ]

    def _dot(self, words: list[list[Any]], first: int, count: int, left: Any) -> None:
        """Adds the codes `first` … of a chunk times the left sides from `left` to the dots."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        width = k.chunks * CHUNK
        for i in range(count):
            scalars = [
                tir.Broadcast(self.scratch.load(left + (m * width + i)), lanes) for m in range(self.rows)
            ]
            if k.width > 1:
                scalars = [b.let(scalar) for scalar in scalars]
            for v, own in enumerate(words):
                number = _one_and_code(own, first + i, k.form.bits, lanes)
                number = number if self.rows == 1 else b.hold(number)
                for m, scalar in enumerate(scalars):
                    row = m * self.chains + i % self.chains
                    self.dots.set(row, v, b.isa.multiply_add(number, scalar, self.dots.get(row, v)))

    def _add(self, number: Any, stat: Any, grid: Any) -> None:
        """Adds s · 2ⁿ · (dot - (1 + z / 2ⁿ) · sum) of group `number`."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        numbers = b.stack("float32", 4)
        grids, factors = self.pointer(k.grids), self.pointer(k.factors)
        b.store(numbers, 0, load_half(b, grids, grid + number * 4, 4, factors.load(0, 4)))
        for v in range(k.width):
            self._add_panel(v, number, stat + v * (k.groups * lanes), numbers)

    def _add_panel(self, v: int, number: Any, stat: Any, numbers: Pointer) -> None:
        """The same for panel v; `numbers` are those of the grid."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        both = b.hold(tir.Cast(f"int32x{lanes}", self.pointer(k.stats).load(stat + number * lanes, lanes)))
        low = both & constant(2**k.form.scale_bits - 1, "int32", lanes)
        high = tir.shift_right(both, constant(k.form.scale_bits, "int32", lanes))

        def value(code: Any, step: int) -> Any:
            wide = tir.Cast(f"float32x{lanes}", code)
            least = tir.Broadcast(numbers.load(step + 1), lanes)
            return b.hold(b.isa.multiply_add(wide, tir.Broadcast(numbers.load(step), lanes), least))

        scale = value(low, 0)
        more = b.hold(value(high, 2) + constant(1.0, "float32", lanes))
        base = self.rows * k.chunks * CHUNK
        for m in range(self.rows):
            total = tir.Broadcast(self.scratch.load(number + (base + m * k.groups)), lanes)
            rest = self.dots.get(m * self.chains, v) - more * total
            for chain in range(1, self.chains):
                rest = rest + self.dots.get(m * self.chains + chain, v)
            self.sums.set(m, v, b.isa.multiply_add(scale, b.hold(rest), self.sums.get(m, v)))

    def store(self) -> None:
        """What the accumulators hold, through bias and epilogue."""
        outputs, lanes, width = self.kernel.out.shape[1], self.b.isa.lanes, self.kernel.width
        whole, ragged = divmod(outputs, lanes)
        for v in range(width):
            vector = self.b.let(self.panel + v, "v")
            if outputs % (lanes * width) == 0:
                self._store(v, vector, lanes)
                continue
            with self.b.when(vector < whole):
                self._store(v, vector, lanes)
            if ragged:
                with self.b.when(tir.EQ(vector, int32(whole))):
                    self._store(v, vector, ragged)

    def _store(self, v: int, vector: Any, keep: int) -> None:
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        scope, column = Scope(b, self.pointers), b.let(vector * lanes)
        for m in range(self.rows):
            total = self.sums.get(m, v)
            if k.bias is not None:
                total = b.hold(total + self.pointer(k.bias).load(column, lanes))
            result = evaluate(
                k.epilogue,
                scope,
                total,
                lambda leaf, m=m: row_operand(scope, leaf, [], int32(m), column, lanes),  # type: ignore[misc]
            )
            store_first(b, self.pointer(k.out), m * k.out.shape[1] + column, result, lanes, keep)


def _one_and_code(words: list[Any], number: int, bits: int, lanes: int) -> Any:
    """float32: 1 + code / 2 ** bits for code `number` of a chunk, its words in registers."""
    word, place = divmod(number * bits, 32)
    wanted = 23 - bits  # a mantissa's highest bits end there
    mask = (1 << bits) - 1
    code = _moved(words[word], wanted - place, lanes)
    if place + bits > 32:
        low = (1 << 32 - place) - 1
        high = _moved(words[word + 1], wanted + 32 - place, lanes)
        code = (code & constant(low << wanted, "int32", lanes)) | (
            high & constant((mask & ~low) << wanted, "int32", lanes)
        )
    else:
        code = code & constant(mask << wanted, "int32", lanes)
    return tir.reinterpret(f"float32x{lanes}", code | constant(0x3F800000, "int32", lanes))


def _moved(word: Any, left: int, lanes: int) -> Any:
    """`word` shifted by `left` bits, to the right where it is negative."""
    if left == 0:
        return word
    count = constant(abs(left), "int32", lanes)
    return tir.shift_left(word, count) if left > 0 else tir.shift_right(word, count)
