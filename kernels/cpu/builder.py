"""Builds one TIR function: loops, loads, stores, register tiles.

Kernels are written against this rather than TVMScript because their inner tiles are unrolled by Python.
A function is private, takes pointers and two integers (`thread`, `threads`) and returns 0. What such a
function must look like to be compiled without TVM's runtime is described in docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tvm import ir
from tvm import tirx as tir
from tvm.sym import Analyzer
from tvm.tirx.analysis import undefined_vars

from ..dims import Dim, Size, expression, is_symbol, symbol_name
from .isa import Isa

__all__ = [
    "STACK_BYTES",
    "VECTORIZED",
    "Builder",
    "Pointer",
    "constant",
    "int32",
    "lanes_of",
    "scalar_type",
    "symbols_used",
    "vector_type",
]

VECTORIZED = tir.ForKind.VECTORIZED
STACK_BYTES = 1023  # TVM turns a larger array into a workspace call
_HUGE = 1 << 30  # extent of an array whose true extent the caller knows


def int32(value: Any) -> Any:
    """An int32 expression; Python integers become constants, sizes become expressions of their symbols."""
    if isinstance(value, Dim):
        return expression(value)
    return tir.IntImm("int32", value) if isinstance(value, int) else value


def scalar_type(value: Any) -> str:
    """Element type of an expression, "float32" for a float32x8."""
    return str(value.ty.dtype).split("x")[0]


def lanes_of(value: Any) -> int:
    """Vector length of an expression, 1 for a scalar."""
    parts = str(value.ty.dtype).split("x")
    return int(parts[1]) if len(parts) > 1 else 1


def vector_type(dtype: str, lanes: int) -> str:
    """TVM's name of a vector type."""
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def constant(value: float | int | bool, dtype: str, lanes: int = 1) -> Any:
    """A constant, repeated over `lanes`."""
    scalar = tir.const(value, dtype)
    return scalar if lanes == 1 else tir.Broadcast(scalar, lanes)


@dataclass(frozen=True)
class Pointer:
    """A flat array of `dtype` inside a function under construction."""

    buffer: Any
    dtype: str

    def load(self, index: Any, lanes: int = 1) -> Any:
        """`lanes` neighbouring values from `index`; `index` may itself be a vector (a gather)."""
        index = int32(index)
        if lanes > 1:
            index = tir.Ramp(index, int32(1), lanes)
        return tir.BufferLoad(self.buffer, [index])


class Builder:
    """One function under construction; statements go to the innermost open block."""

    def __init__(self, isa: Isa) -> None:
        self.isa = isa
        self._params: list[Any] = []
        self._declarations: list[Any] = []
        self._blocks: list[list[Any]] = [[]]
        self._names = 0
        self._analyzer = Analyzer()
        self._vector_loop: tuple[Any, int] | None = None  # lane variable and extent of the open one
        self.thread: Any = tir.Var("thread", "int32")
        self.threads: Any = tir.Var("threads", "int32")

    def fresh(self, stem: str) -> str:
        """A name not used before in this function."""
        self._names += 1
        return f"{stem}{self._names}"

    # ---- data -------------------------------------------------------------------------------
    def pointer(self, dtype: str) -> Pointer:
        """A new pointer parameter."""
        handle = tir.Var(self.fresh("p"), ir.PointerType(ir.PrimType(dtype)))
        buffer = _array(self.fresh("b"), dtype, _HUGE)
        self._params.append(handle)
        self._declarations.append(tir.DeclBuffer(buffer, data=handle))
        return Pointer(buffer, dtype)

    def retyped(self, pointer: Pointer, dtype: str, offset: int = 0) -> Pointer:
        """The memory `offset` bytes behind a pointer as an array of `dtype`; nothing else may read it."""
        address: Any = pointer.buffer.data
        if offset:
            address = tir.handle_add_byte_offset(address, tir.const(offset, "int64"))
        kind = ir.PointerType(ir.PrimType(dtype))
        handle = tir.Var(self.fresh("p"), kind)
        buffer = _array(self.fresh("b"), dtype, _HUGE)
        self._blocks[-1] += [
            tir.Bind(handle, tir.reinterpret(kind, address)),
            tir.DeclBuffer(buffer, data=handle),
        ]
        return Pointer(buffer, dtype)

    def stack(self, dtype: str, count: int) -> Pointer:
        """An uninitialised array of at most 1,024 bytes; constant indices make it registers."""
        assert count * _bytes(dtype) <= STACK_BYTES, (dtype, count)
        buffer = _array(self.fresh("t"), dtype, count, alignment=64)
        self._blocks[-1].append(tir.AllocBuffer(buffer))
        return Pointer(buffer, dtype)

    def let(self, value: Any, stem: str = "v") -> Any:
        """A named value, computed once here."""
        var = tir.Var(self.fresh(stem), str(value.ty.dtype))
        self._blocks[-1].append(tir.Bind(var, value))
        return var

    def hold(self, value: Any) -> Any:
        """A value that is used more than once, in a register.

        `let` is for indices and single steps: TVM's code generator substitutes bound values into later ones,
        which takes minutes for a polynomial. A stack slot, which LLVM turns into a register, stops it.
        """
        if isinstance(value, _ATOMS):
            return value
        dtype, lanes = scalar_type(value), lanes_of(value)
        if dtype == "bool":
            return value
        if self._vector_loop is None:
            slot = self.stack(dtype, lanes)
            self.store(slot, 0, value)
            return slot.load(0, lanes)
        lane, extent = self._vector_loop
        buffer = _array(self.fresh("h"), dtype, extent, alignment=64)
        self._blocks[-2].append(tir.AllocBuffer(buffer))  # before the loop, one place for each lane
        slot = Pointer(buffer, dtype)
        self.store(slot, lane, value)
        return slot.load(lane)

    def store(self, target: Pointer, index: Any, value: Any) -> None:
        """Writes `value` (scalar or vector) at `index`, lanes side by side."""
        lanes = lanes_of(value)
        index = int32(index)
        if lanes > 1 and lanes_of(index) == 1:
            index = tir.Ramp(index, int32(1), lanes)
        self._blocks[-1].append(tir.BufferStore(target.buffer, value, [index]))

    def simplify(self, index: Any) -> Any:
        """An index in its simplest form, by the ranges of the loops around it."""
        return index if isinstance(index, int) else _truncating(self._analyzer.simplify(int32(index)))

    # ---- control ----------------------------------------------------------------------------
    @contextmanager
    def loop(self, extent: Any, start: Any = 0, kind: int = tir.ForKind.SERIAL) -> Iterator[Any]:
        """`for i in range(start, start + extent)`."""
        var = tir.Var(self.fresh("i"), "int32")
        if isinstance(start, int | Dim) and isinstance(extent, int | Dim):
            self._analyzer.bind(var, ir.Range(int32(start), int32(start + extent)))
        self._blocks.append([])
        if kind == VECTORIZED and extent == 1:
            kind = tir.ForKind.SERIAL  # TVM knows no vectors of one
        if kind == VECTORIZED:
            self._vector_loop = (var, extent)
        yield var
        self._vector_loop = None
        body = self._close()
        self._blocks[-1].append(tir.For(var, int32(start), int32(extent), kind, body))

    @contextmanager
    def each(self, extent: Size) -> Iterator[Any]:
        """`for i in range(extent)`, without a loop where there is one turn only."""
        if extent == 1:
            yield int32(0)
        else:
            with self.loop(extent) as i:
                yield i

    @contextmanager
    def when(self, condition: Any) -> Iterator[None]:
        """Statements inside run where `condition` holds."""
        self._blocks.append([])
        yield
        body = self._close()
        self._blocks[-1].append(tir.IfThenElse(condition, body, None))

    @contextmanager
    def split(self, extent: Size, chunk: int = 1) -> Iterator[Any]:
        """A loop over `extent` whose iterations are shared out among threads in even runs of `chunk`."""
        if extent == 1:
            with self.when(self.thread == 0):
                yield int32(0)
            return
        count = -(-extent // chunk)
        first = self.let(self._share(self.thread, count) * chunk, "first")
        last = tir.min(self._share(self.thread + 1, count) * chunk, int32(extent))
        with self.loop(self.let(last - first, "share"), first) as i:
            yield i

    def _share(self, thread: Any, count: Size) -> Any:
        """Where a thread's part of `count` starts; 16 times a size of any number may not fit an int32."""
        if isinstance(count, int):
            return tir.truncdiv(thread * count, self.threads)
        wide = tir.Cast("int64", thread) * tir.Cast("int64", expression(count))
        return tir.Cast("int32", tir.truncdiv(wide, tir.Cast("int64", self.threads)))

    @contextmanager
    def split_grid(self, outer: int, inner: int) -> Iterator[tuple[Any, Any, Any]]:
        """A loop over the rows of a grid of `outer` x `inner` cells that are shared out among threads.

        Gives (row, first column, columns), all expressions: a thread's cells are neighbours, and only its
        first and last row may be shared with another thread. So shares differ by one cell at most.
        """
        first = self.let(tir.truncdiv(self.thread * (outer * inner), self.threads), "first")
        last = self.let(tir.truncdiv((self.thread + 1) * (outer * inner), self.threads), "last")
        top = self.let(tir.truncdiv(first, int32(inner)), "top")
        rows = self.let(tir.truncdiv(last + (inner - 1), int32(inner)) - top, "rows")
        # a thread without cells has last == first, which may lie inside a row
        with self.loop(tir.Select(last > first, rows, int32(0)), top) as row:
            start = self.let(tir.max(first - row * inner, int32(0)), "column")
            end = tir.min(last - row * inner, int32(inner))
            yield row, start, self.let(end - start, "columns")

    def _close(self) -> Any:
        block = self._blocks.pop() or [tir.Evaluate(int32(0))]
        return block[0] if len(block) == 1 else tir.SeqStmt(block)

    def finish(self) -> Any:
        """The finished PrimFunc; symbols of sizes that it uses are its last parameters, by name."""
        body = tir.SeqStmt([*self._declarations, *self._blocks[0], tir.Return(int32(0))])
        params = [*self._params, self.thread, self.threads]
        free = [var for var in undefined_vars(body, params) if is_symbol(var)]
        params += sorted(free, key=lambda var: str(var.name))
        return tir.PrimFunc(params, body, ret_type=ir.PrimType("int32"))


def symbols_used(function: Any) -> list[str]:
    """Names of the symbols that a kernel's function takes, in the order of its last parameters."""
    return [symbol_name(var) for var in function.params if is_symbol(var)]


def _truncating(index: Any) -> Any:
    """The same index with divisions that truncate: no index is negative, and flooring costs a branch."""
    if isinstance(index, tir.FloorDiv):
        return tir.truncdiv(_truncating(index.a), index.b)
    if isinstance(index, tir.FloorMod):
        return tir.truncmod(_truncating(index.a), index.b)
    if isinstance(index, (tir.Add, tir.Sub, tir.Mul)):
        return type(index)(_truncating(index.a), _truncating(index.b))
    return index


def _bytes(dtype: str) -> int:
    return {"bool": 1}.get(dtype) or int("".join(c for c in dtype if c.isdigit())) // 8


def _array(name: str, dtype: str, count: int, alignment: int | None = None) -> Any:
    # an alignment of one element lets LLVM use unaligned vector loads, which cost nothing today
    alignment = alignment or _bytes(dtype)
    return tir.decl_buffer((count,), dtype, name=name, data_alignment=alignment, layout=None)


_ATOMS = (ir.TensorLoad, tir.Var, tir.Broadcast, tir.IntImm, tir.FloatImm)  # need no place of their own
Emit = Callable[[Builder, Sequence[Pointer]], None]
