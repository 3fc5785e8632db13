"""The entry function and the IRModule of one code variant.

    int32_t entry(in0…, out0…, const void *weights, void *arena, int32_t thread, int32_t threads, void *sync)

calls the kernels one after another, and after every kernel `gossamer_sync(sync)` unless `sync` is null: there
several threads, each of which runs the same calls, meet, and a profiler reads the clock. No TVM runtime
function is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import ir
from tvm import tirx as tir

from ..cpu.builder import int32
from ..cpu.isa import Isa
from ..cpu.kernel import Kernel
from ..cpu.tensor import ITEM_BYTES, Tensor, stored_type

__all__ = ["Layout", "as_c_function", "build_module"]


@dataclass(frozen=True)
class Layout:
    """Where tensors lie: parameter number of inputs and outputs, byte offsets of the rest."""

    parameters: Mapping[int, int]  # id(tensor) -> index among inputs then outputs
    weights: Mapping[int, int]  # id(tensor) -> byte offset
    arena: Mapping[int, int]
    scratch: Mapping[int, int]  # step -> byte offset in the arena of the first thread's scratch
    further: int = 0  # byte offset of the second thread's
    stride: int = 0  # bytes from there to the third's


def build_module(
    symbol: str, kernels: Sequence[Kernel], io_types: Sequence[str], layout: Layout, isa: Isa
) -> Any:
    """IRModule of `kernels` (equal ones once) and the entry `symbol`."""
    functions: dict[Any, Any] = {}
    names: dict[Any, Any] = {}
    for kernel in kernels:
        if kernel.key not in names:
            name = ir.GlobalVar(f"{symbol}_k{len(names)}_{kernel.family.replace('-', '_')}")
            names[kernel.key] = name
            # a symbol of its own keeps LLVM from inlining all kernels into one huge, slow function
            functions[name] = as_c_function(kernel.build(isa), name.name_hint)
    entry = _Entry(io_types, layout)
    calls = [
        call
        for step, kernel in enumerate(kernels)
        for call in entry.call(names[kernel.key], step, kernel, isa)
    ]
    functions[ir.GlobalVar(symbol)] = entry.finish(symbol, calls)
    return tvm.IRModule(functions)


class _Entry:
    def __init__(self, io_types: Sequence[str], layout: Layout) -> None:
        self.layout = layout
        self.io = [_handle(f"io{i}", stored_type(t)) for i, t in enumerate(io_types)]
        self.weights, self.arena = _handle("weights", "uint8"), _handle("arena", "uint8")
        self.thread, self.threads = tir.Var("thread", "int32"), tir.Var("threads", "int32")
        self.sync = _handle("sync", "uint8")

    def call(self, name: Any, step: int, kernel: Kernel, isa: Isa) -> list[Any]:
        """One kernel's call, and what a run may want after it."""
        arguments = [self._address(t) for t in (*kernel.reads(), *kernel.writes())]
        if kernel.scratch_bytes(isa):
            arguments.append(_typed(self.arena, self._scratch(step), "float32"))
        ran = ir.Call(name, [*arguments, self.thread, self.threads], ret_ty=ir.PrimType("int32"))
        meet = tir.Evaluate(tir.call_extern("void", "gossamer_sync", self.sync))
        return [tir.Evaluate(ran), tir.IfThenElse(tir.Not(tir.isnullptr(self.sync)), meet, None)]

    def _scratch(self, step: int) -> Any:
        layout = self.layout
        number = tir.Cast("int64", self.thread) - 1
        further = tir.const(layout.further, "int64") + number * layout.stride
        return tir.Select(self.thread > 0, further, tir.const(layout.scratch[step], "int64"))

    def _address(self, tensor: Tensor) -> Any:
        root, dtype = tensor.root, stored_type(tensor.dtype)
        bytes_in = tensor.root_offset * ITEM_BYTES[root.dtype]
        if root.place in ("input", "output"):
            return _typed(self.io[self.layout.parameters[id(root)]], bytes_in, dtype)
        if root.place == "weight":
            return _typed(self.weights, self.layout.weights[id(root)] + bytes_in, dtype)
        return _typed(self.arena, self.layout.arena[id(root)] + bytes_in, dtype)

    def finish(self, symbol: str, calls: list[Any]) -> Any:
        params = [*self.io, self.weights, self.arena, self.thread, self.threads, self.sync]
        body = tir.SeqStmt([*calls, tir.Return(int32(0))])
        function = tir.PrimFunc(params, body, ret_type=ir.PrimType("int32"))
        return as_c_function(function, symbol)


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
