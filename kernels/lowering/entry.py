"""The entry function and the IRModule of one code variant.

    int32_t entry(in0…, out0…, const void *weights, void *arena, int32_t thread, int32_t threads, void *sync)

calls the kernels one after another, and after every kernel `gossamer_sync(sync)` unless `sync` is null: there
several threads, each of which runs the same calls, meet, and a profiler reads the clock. A branch or a loop
counts as one kernel: inside it `gossamer_sync` is called with several threads only. No TVM runtime function
is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import ir
from tvm import tirx as tir

from gossamer.runtime.errors import GossamerError, UnsupportedError

from ..cpu.builder import int32, symbols_used
from ..cpu.isa import Isa
from ..cpu.kernel import Kernel
from ..cpu.tensor import ITEM_BYTES, Tensor, stored_type
from ..dims import Size, evaluated, symbols_of, variable
from .branching import Surroundings, branch, repeat
from .table import ITEM, Table, loads
from .tree import Branch, Step, kernels_of

__all__ = ["Layout", "as_c_function", "build_module"]


@dataclass(frozen=True)
class Layout:
    """Where tensors lie: parameter number of inputs and outputs, byte offsets of the rest."""

    parameters: Mapping[int, int]  # id(tensor) -> index among inputs then outputs
    weights: Mapping[int, int]  # id(tensor) -> byte offset
    arena: Mapping[int, Size]
    scratch: Mapping[int, Size]  # step -> byte offset in the arena of the first thread's scratch
    further: Size = 0  # byte offset of the second thread's
    stride: Size = 0  # bytes from there to the third's
    table: Table | None = None


def build_module(
    symbol: str,
    steps: Sequence[Step],
    io_types: Sequence[str],
    layout: Layout,
    isa: Isa,
    more: Mapping[str, Any] | None = None,
) -> Any:
    """IRModule of the kernels in `steps` (equal ones once), the entry `symbol`, and `more` functions."""
    functions: dict[Any, Any] = {ir.GlobalVar(name): function for name, function in (more or {}).items()}
    names: dict[Any, Any] = {}
    for kernel in kernels_of(steps):
        if kernel.key not in names:
            name = ir.GlobalVar(f"{symbol}_k{len(names)}_{kernel.family.replace('-', '_')}")
            names[kernel.key] = name
            # a symbol of its own keeps LLVM from inlining all kernels into one huge, slow function
            functions[name] = as_c_function(_built(kernel, isa), name.name_hint)
    symbols = {key: symbols_used(functions[name]) for key, name in names.items()}
    entry = _Entry(io_types, layout, names, symbols, isa)
    calls = [statement for step in steps for statement in entry.statements(step)]
    functions[ir.GlobalVar(symbol)] = entry.finish(symbol, calls)
    return tvm.IRModule(functions)


def _built(kernel: Kernel, isa: Isa) -> Any:
    """The kernel's code; what it did not foresee is refused by the name of the tensor it writes."""
    try:
        return kernel.build(isa)
    except (GossamerError, MemoryError):
        raise
    except Exception as error:
        # The libraries below raise errors of their own for what they cannot express.
        written = ", ".join(repr(tensor.name) for tensor in kernel.writes())
        raise UnsupportedError(
            "the compiler cannot take this kernel",
            where=f"{kernel.family} kernel that writes {written}",
            got=f"{type(error).__name__}: {error}",
            advice="please report it",
        ) from error


class _Entry:
    """The entry under construction: statements must be asked for in the order of `steps`."""

    def __init__(
        self,
        io_types: Sequence[str],
        layout: Layout,
        names: Mapping[Any, Any],
        symbols: Mapping[Any, Sequence[str]],
        isa: Isa,
    ) -> None:
        self.layout, self.names, self.symbols, self.isa = layout, names, symbols, isa
        self.io = [_handle(f"io{i}", stored_type(t)) for i, t in enumerate(io_types)]
        self.weights, self.arena = _handle("weights", "uint8"), _handle("arena", "uint8")
        self.thread, self.threads = tir.Var("thread", "int32"), tir.Var("threads", "int32")
        self.sync = _handle("sync", "uint8")
        self._kernels = self._branches = 0
        self.table = layout.table
        self.numbers: Any = None
        self.sizes: dict[str, Any] = {}
        if self.table is not None:
            self.numbers = tir.decl_buffer((1 << 30,), "int64", "numbers", data_alignment=ITEM, layout=None)
            self.sizes = loads(self.numbers, self.table.slots)

    def statements(self, step: Step, depth: int = 0) -> Iterator[Any]:
        """One step, and what a run may want after it."""
        if isinstance(step, Kernel):
            yield self._call(step)
        else:
            self._branches += 1
            name = f"step{self._branches}"
            around = Surroundings(self._address, self._value, self._fail, self._meet(1), self.thread)
            if isinstance(step, Branch):
                then, other = self._list(step.then, depth), self._list(step.other, depth)
                yield from branch(step, name, around, then, other)
            else:
                yield from repeat(step, name, around, self._list(step.body, depth))
        yield self._meet(depth)

    def _list(self, steps: Sequence[Step], depth: int) -> list[Any]:
        return [statement for step in steps for statement in self.statements(step, depth + 1)]

    def _meet(self, depth: int) -> Any:
        meet = tir.Evaluate(tir.call_extern("void", "gossamer_sync", self.sync))
        wanted = tir.Not(tir.isnullptr(self.sync))
        return tir.IfThenElse(tir.And(wanted, self.threads > 1) if depth else wanted, meet, None)

    def _call(self, kernel: Kernel) -> Any:
        arguments = [self._address(t) for t in (*kernel.reads(), *kernel.writes())]
        if kernel.scratch_bytes(self.isa):
            arguments.append(_typed(self.arena, self._scratch(self._kernels), "float32"))
        self._kernels += 1
        arguments += [self.thread, self.threads, *map(self._symbol, self.symbols[kernel.key])]
        return tir.Evaluate(ir.Call(self.names[kernel.key], arguments, ret_ty=ir.PrimType("int32")))

    def _scratch(self, step: int) -> Any:
        layout = self.layout
        number = tir.Cast("int64", self.thread) - 1
        further = self._value(layout.further) + number * self._value(layout.stride)
        return tir.Select(self.thread > 0, further, self._value(layout.scratch[step]))

    def _symbol(self, name: str) -> Any:
        """A size from the table, or the turn of a loop around this place."""
        return tir.Cast("int32", self.sizes[name]) if name in self.sizes else variable(name)

    def _value(self, size: Size) -> Any:
        turns = {s.name: variable(s.name, "int64") for s in symbols_of(size) if s.name not in self.sizes}
        found = evaluated(size, {**self.sizes, **turns})
        return tir.const(found, "int64") if isinstance(found, int) else found

    def _place(self, offset: Size) -> Any:
        """A byte offset, as a number where it is one."""
        return offset if isinstance(offset, int) else self._value(offset)

    def _address(self, tensor: Tensor) -> Any:
        root, dtype = tensor.root, stored_type(tensor.dtype)
        bytes_in = tensor.root_offset * ITEM_BYTES[root.dtype]
        if root.place in ("input", "output"):
            return _typed(self.io[self.layout.parameters[id(root)]], self._place(bytes_in), dtype)
        if root.place == "weight":
            return _typed(self.weights, self._place(self.layout.weights[id(root)] + bytes_in), dtype)
        if root.place == "table":
            assert self.table is not None
            return _typed(self.arena, ITEM * self.table.slots[root.name] + bytes_in, dtype)
        return _typed(self.arena, self._place(self.layout.arena[id(root)] + bytes_in), dtype)

    def finish(self, symbol: str, calls: list[Any]) -> Any:
        params = [*self.io, self.weights, self.arena, self.thread, self.threads, self.sync]
        statements = [*self._open_table(), *calls, *self._measured(), tir.Return(int32(0))]
        body = tir.SeqStmt(statements) if len(statements) > 1 else statements[0]
        function = tir.PrimFunc(params, body, ret_type=ir.PrimType("int32"))
        return as_c_function(function, symbol)

    def _open_table(self) -> list[Any]:
        if self.table is None:
            return []
        head = tir.Var("table", ir.PointerType(ir.PrimType("int64")))
        return [tir.Bind(head, _typed(self.arena, 0, "int64")), tir.DeclBuffer(self.numbers, data=head)]

    def _fail(self, reason: str) -> list[Any]:
        """The first thread says in the table why the run failed."""
        assert self.table is not None
        mark = tir.const(self.table.mark(reason), "int64")
        store = tir.BufferStore(self.numbers, mark, [int32(0)])
        return [tir.IfThenElse(tir.EQ(self.thread, int32(0)), store, None)]

    def _measured(self) -> list[Any]:
        """The first thread writes dimensions of outputs that depend on what kernels found."""
        if self.table is None or not self.table.written:
            return []
        stores = [
            tir.BufferStore(self.numbers, self._value(size), [int32(slot)])
            for slot, size in self.table.written
        ]
        body = stores[0] if len(stores) == 1 else tir.SeqStmt(stores)
        return [tir.IfThenElse(tir.EQ(self.thread, int32(0)), body, None)]


def as_c_function(function: Any, symbol: str) -> Any:
    """Calling convention 0: TVM leaves the function's parameters as they are."""
    return function.with_attr("global_symbol", symbol).with_attr("calling_conv", 0)


def _handle(name: str, dtype: str) -> Any:
    return tir.Var(name, ir.PointerType(ir.PrimType(dtype)))


def _typed(handle: Any, offset: Any, dtype: str) -> Any:
    """`handle` moved by `offset` bytes, as a pointer to `dtype`."""
    if isinstance(offset, int) and offset == 0:
        moved = handle
    else:
        moved = tir.handle_add_byte_offset(
            handle, offset if not isinstance(offset, int) else tir.const(offset, "int64")
        )
    return tir.reinterpret(ir.PointerType(ir.PrimType(dtype)), moved)
