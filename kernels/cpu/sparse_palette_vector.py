"""A few rows times a block-sparse palette: only surviving blocks are read, as codes.

    out[m, n] = epilogue(bias[n] + Σ over blocks of n:  left[m, column] · lut[code])

A block holds R neighbouring outputs of one input. A vector is as many blocks as fit, of the same outputs and
of different inputs, or a part of one; a group of codes is several vectors. The activations are copied once,
with a zero behind them, to which the blocks point that fill the last group of some outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32
from .code_lookup import Look, TableLookup
from .epilogue import evaluate
from .isa import Isa
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .matmul import row_operand
from .register_tile import RegisterTile
from .storing import store_first
from .tensor import Tensor

__all__ = ["SparseCodes", "SparsePaletteVector"]

_SUMS = 4  # vectors of accumulators that hide the latency of multiply-adds


@dataclass(frozen=True)
class SparseCodes:
    """`codes`: (groups, items) of a look-up; `columns` of each block: int32, or two in a uint32; `starts`:
    int32 (ceil(N / R) + 1,), the groups before each R outputs; `table`: one of the look-up; `mask`: uint32
    (2 R,), the lanes of the first of two blocks."""

    codes: Tensor
    columns: Tensor
    starts: Tensor
    table: Tensor
    mask: Tensor


@dataclass(eq=False)
class SparsePaletteVector(Kernel):
    """`left`: (M, K) contiguous; `bias`: whole vectors of (N,) or None; `out`: (M, N); `height` is R."""

    left: Tensor
    weights: SparseCodes
    bias: Tensor | None
    out: Tensor
    lookup: TableLookup
    height: int
    epilogue: Lazy
    family = "sparse-palette-vector"

    def reads(self) -> Sequence[Tensor]:
        w = self.weights
        own = [self.left, w.codes, w.columns, w.starts, w.table, w.mask] + ([self.bias] if self.bias else [])
        return list({id(t): t for t in [*own, *leaves(self.epilogue)]}.values())

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    def scratch_bytes(self, isa: Isa) -> int:
        rows, depth = self.left.shape
        return 4 * rows * (depth + 1)

    @property
    def key(self) -> tuple[Any, ...]:
        tensors = [Leaf(t).key for t in (*self.reads(), self.out)]
        form = (self.lookup.key, self.height, self.bias is not None)
        return (self.family, *form, self.epilogue.key, sharing(self.reads(), self.epilogue), *tensors)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        assert scratch is not None
        self._copy(b, pointers[id(self.left)], scratch)
        table = self.lookup.open(b, pointers[id(self.weights.table)], 0)
        whole, rest = divmod(self.out.shape[1], self.height)
        if whole:
            with b.split(whole) as block:
                _Block(self, b, pointers, scratch, table).emit(block, self.height)
        if rest:
            with b.when(b.thread == 0):
                _Block(self, b, pointers, scratch, table).emit(int32(whole), rest)

    def _copy(self, b: Builder, left: Pointer, scratch: Pointer) -> None:
        """The activations, a zero behind each row."""
        (rows, depth), lanes = self.left.shape, b.isa.lanes
        for m in range(rows):
            with b.loop(depth // lanes) as i:
                b.store(scratch, m * (depth + 1) + i * lanes, left.load(m * depth + i * lanes, lanes))
            for k in range(depth - depth % lanes, depth):
                b.store(scratch, m * (depth + 1) + k, left.load(m * depth + k))
            b.store(scratch, m * (depth + 1) + depth, constant(0.0, "float32"))


class _Block:
    """The code for R outputs, all rows of activations."""

    def __init__(
        self,
        kernel: SparsePaletteVector,
        b: Builder,
        pointers: dict[int, Pointer],
        scratch: Pointer,
        table: Any,
    ) -> None:
        self.kernel, self.b, self.pointers, self.scratch, self.table = kernel, b, pointers, scratch, table
        self.rows, self.depth = kernel.left.shape
        lanes, height = b.isa.lanes, kernel.height
        self.lanes = min(lanes, max(height, 2 * height))  # of a multiply-add: at most two blocks
        self.parts = max(1, height // lanes)  # vectors of a block
        self.chains = max(1, _SUMS // (self.parts * self.rows))
        self.vector: Any = None  # the last one that was decoded
        self.tile = RegisterTile(b, self.rows * self.chains, self.parts, self.lanes)

    def pointer(self, tensor: Tensor) -> Pointer:
        return self.pointers[id(tensor)]

    def emit(self, block: Any, height: int) -> None:
        """Outputs block · R …, of which there are `height`."""
        k, b = self.kernel, self.b
        self.tile.start()
        starts = self.pointer(k.weights.starts)
        begin = b.let(starts.load(block))
        with b.loop(b.let(starts.load(block + 1) - begin), begin) as group:
            self._group(group)
        for m in range(self.rows):
            self._store(m, block, height)

    def _group(self, group: Any) -> None:
        k, b, lookup = self.kernel, self.b, self.kernel.lookup
        entry = lookup.look(b, self.pointer(k.weights.codes), b.let(group * lookup.items), self.table)
        blocks = lookup.vectors * b.isa.lanes // k.height
        each = max(1, self.lanes // k.height)  # blocks of a multiply-add
        columns = self._columns(b.let(group * blocks), blocks)
        for step in range(blocks // each):
            at = [next(columns) for _ in range(each)]
            activations = [b.hold(self._activations(m, at)) for m in range(self.rows)]
            for part in range(self.parts):
                weights = self._weights(entry, step * self.parts + part)
                for m, x in enumerate(activations):
                    row = m * self.chains + step % self.chains
                    self.tile.set(row, part, b.isa.multiply_add(weights, x, self.tile.get(row, part)))

    def _columns(self, first: Any, count: int) -> Iterator[Any]:
        """The inputs of `count` blocks from `first`; two are read at once where they take 16 bits each."""
        b, columns = self.b, self.pointer(self.kernel.weights.columns)
        if self.kernel.weights.columns.dtype == "int32":
            yield from (b.let(columns.load(first + i)) for i in range(count))
            return
        start = b.let(tir.truncdiv(first, int32(2)))
        for i in range(count // 2):
            pair = b.let(columns.load(start + i))
            yield b.let(tir.Cast("int32", pair & constant(0xFFFF, "uint32")))
            yield b.let(tir.Cast("int32", pair >> constant(16, "uint32")))

    def _weights(self, entry: Look, number: int) -> Any:
        """That many times `lanes` weights into the group; vectors may be used in pieces."""
        whole = self.b.isa.lanes
        vector, piece = divmod(number * self.lanes, whole)
        if piece == 0:
            self.vector = self.b.hold(entry(vector))
        if self.lanes == whole:
            return self.vector
        return tir.Shuffle([self.vector], [int32(piece + i) for i in range(self.lanes)])

    def _activations(self, m: int, columns: Sequence[Any]) -> Any:
        """Each block's activation in its lanes: two by a mask: LLVM's shuffle of broadcasts is slower."""
        lanes = self.lanes
        scalars = [self.scratch.load(m * (self.depth + 1) + column) for column in columns]
        if len(scalars) == 1:
            return tir.Broadcast(scalars[0], lanes)
        mask = self.pointer(self.kernel.weights.mask).load(0, lanes)
        first, second = (tir.reinterpret(f"uint32x{lanes}", tir.Broadcast(x, lanes)) for x in scalars)
        return tir.reinterpret(f"float32x{lanes}", _chosen(self.b.isa, mask, first, second))

    def _store(self, m: int, block: Any, height: int) -> None:
        k, b = self.kernel, self.b
        lanes = min(b.isa.lanes, k.height)
        scope = Scope(b, self.pointers)
        for part in range(self.parts):
            keep = min(lanes, height - part * lanes)
            if keep <= 0:
                return
            column = b.let(block * k.height + part * lanes)
            total = self._folded(m, part)
            if k.bias is not None:
                total = total + self.pointer(k.bias).load(column, lanes)

            def operand(leaf: Leaf, column: Any = column) -> Any:
                return row_operand(scope, leaf, [], int32(m), column, lanes)

            result = evaluate(k.epilogue, scope, b.hold(total), operand)
            store_first(b, self.pointer(k.out), m * k.out.shape[1] + column, result, lanes, keep)

    def _folded(self, m: int, part: int) -> Any:
        """The sums of all chains and of all blocks of a vector: R lanes."""
        b, first = self.b, m * self.chains
        total = self.tile.get(first, part)
        for chain in range(1, self.chains):
            total = total + self.tile.get(first + chain, part)
        if self.lanes > self.kernel.height:
            total, half = b.hold(total), self.kernel.height
            low, high = (tir.Shuffle([total], [int32(start + i) for i in range(half)]) for start in (0, half))
            total = low + high
        return total


def _chosen(isa: Isa, mask: Any, first: Any, second: Any) -> Any:
    """The bits of `first` where `mask` has ones, else of `second`."""
    if isa.lanes < 16:
        return (first & mask) | (second & ~mask)
    bits = 32 * int(str(first.ty.dtype).split("x")[1])  # in one instruction, of which LLVM makes two
    name = f"llvm.x86.avx512.pternlog.d.{bits}"
    return tir.call_llvm_pure_intrin(str(first.ty.dtype), name, mask, first, second, int32(0xCA))
