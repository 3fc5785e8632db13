"""Lowers a model whose input axes have names, and runs its kernels natively at sizes given later.

Every tensor lies just before a forbidden page, so that reading or writing past its end (and the slack that
`kernels/lowering` appends to the arena and to weights) ends the process.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import tvm
from tvm import ir as tvm_ir

from gossamer.kernels.building.toolchain import zig
from gossamer.kernels.cpu.builder import symbols_used
from gossamer.kernels.cpu.isa import Isa
from gossamer.kernels.cpu.kernel import Kernel
from gossamer.kernels.cpu.lazy import Leaf
from gossamer.kernels.cpu.tensor import ITEM_BYTES, Tensor, contiguous, stored_type
from gossamer.kernels.dims import Size, evaluated, symbol
from gossamer.kernels.lowering.emit import compiled_module
from gossamer.kernels.lowering.entry import as_c_function
from gossamer.kernels.lowering.lower import lower_nodes
from gossamer.kernels.lowering.state import Lowering
from gossamer.kernels.lowering.tree import kernels_of
from gossamer.kernels.targets import find_target

__all__ = ["AnySize"]

_SLACK = {"arena": 1024, "weight": 512}  # bytes
_PAGE = mmap.PAGESIZE
_LIBC = ctypes.CDLL(None, use_errno=True)


class AnySize:
    """A model's kernels for one target of this machine, compiled once.

    >>> AnySize(model, folder).run({"x": array})
    """

    def __init__(self, model: onnx.ModelProto, folder: Path, target: str = "host", most: int | None = None):
        found = find_target(target)
        self.isa = Isa(found, next(iter(found.variants)))
        self.state = Lowering(self.isa)
        graph = ir.from_proto(onnx.shape_inference.infer_shapes(model)).graph
        self.inputs = [_bind(self.state, value, most) for value in graph.inputs]
        lower_nodes(self.state, graph)
        self.outputs = [self.state.tensor(self.state.lazy(value)) for value in graph.outputs]
        self.kernels = list(kernels_of(self.state.steps))  # run in order: without branches and loops
        self.functions = _compiled(self.kernels, self.isa, folder)

    @property
    def families(self) -> list[str]:
        """What computes it, in order."""
        return [kernel.family for kernel in self.kernels]

    def run(self, feeds: Mapping[str, np.ndarray], threads: int = 1) -> list[np.ndarray]:
        """The outputs for feeds of any size."""
        sizes = self._sizes(feeds)
        memory = _Memory(self.state, sizes)
        for tensor in self.inputs:
            memory.fill(tensor, feeds[tensor.name])
        for kernel in self.kernels:
            for thread in reversed(range(threads)):
                self._call(kernel, memory, sizes, thread, threads)
        return [memory.read(tensor) for tensor in self.outputs]

    def call(self, feeds: Mapping[str, np.ndarray]) -> Any:
        """A function that runs all kernels once more, for timing."""
        sizes = self._sizes(feeds)
        memory = _Memory(self.state, sizes)
        for tensor in self.inputs:
            memory.fill(tensor, feeds[tensor.name])
        calls = [self._bound(kernel, memory, sizes, 0, 1) for kernel in self.kernels]

        def run() -> _Memory:
            for function, arguments in calls:
                function(*arguments)
            return memory  # which lives as long as the function

        return run

    def _sizes(self, feeds: Mapping[str, np.ndarray]) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for tensor in self.inputs:
            for size, n in zip(tensor.shape, feeds[tensor.name].shape, strict=True):
                if not isinstance(size, int):
                    assert sizes.setdefault(str(size), n) == n
        return sizes

    def _call(
        self, kernel: Kernel, memory: _Memory, sizes: dict[str, int], thread: int, threads: int
    ) -> None:
        function, arguments = self._bound(kernel, memory, sizes, thread, threads)
        assert function(*arguments) == 0

    def _bound(
        self, kernel: Kernel, memory: _Memory, sizes: dict[str, int], thread: int, threads: int
    ) -> tuple[Any, list[Any]]:
        function, names = self.functions[kernel.key]
        addresses = [memory.address(t) for t in (*kernel.reads(), *kernel.writes())]
        if size := kernel.scratch_bytes(self.isa):
            addresses.append(memory.scratch((id(kernel), thread), evaluated(size, sizes)))
        numbers = [ctypes.c_int32(n) for n in (thread, threads, *(sizes[name] for name in names))]
        return function, [*map(ctypes.c_void_p, addresses), *numbers]


def _bind(state: Lowering, value: ir.Value, most: int | None) -> Tensor:
    assert value.shape is not None
    shape: tuple[Size, ...] = tuple(
        d if isinstance(d, int) else symbol(str(d.value), 1, most) for d in value.shape
    )
    assert value.dtype is not None
    dtype = str(value.dtype.numpy())
    tensor = Tensor(value.name or "", dtype, shape, contiguous(shape), "input")
    state.values[value] = Leaf(tensor)
    return tensor


def _compiled(steps: list[Kernel], isa: Isa, folder: Path) -> dict[Any, tuple[Any, list[str]]]:
    kernels = {kernel.key: kernel for kernel in steps}
    built = {key: kernel.build(isa) for key, kernel in kernels.items()}
    names = {key: f"k{i}_{kernels[key].family.replace('-', '_')}" for i, key in enumerate(kernels)}
    module = tvm.IRModule(
        {tvm_ir.GlobalVar(names[key]): as_c_function(function, names[key]) for key, function in built.items()}
    )
    compiled_module(module, isa).write_to_file(str(folder / "kernels.o"))
    zig("ld.lld", "-shared", folder / "kernels.o", "-o", folder / "kernels.so")
    library = ctypes.CDLL(str(folder / "kernels.so"))
    return {key: (getattr(library, names[key]), symbols_used(built[key])) for key in kernels}


class _Memory:
    """One guarded buffer for each tensor that owns memory."""

    def __init__(self, state: Lowering, sizes: Mapping[str, int]) -> None:
        self.state, self.sizes = state, sizes
        self._places: dict[int, tuple[Tensor, _Guarded]] = {}  # the tensor keeps its id
        self._scratch: dict[Any, _Guarded] = {}
        self._weights = _Guarded(len(state.pool.blob()), state.pool.blob())

    def address(self, tensor: Tensor) -> int:
        root, offset = tensor.root, evaluated(tensor.root_offset, self.sizes) * ITEM_BYTES[tensor.root.dtype]
        if root.place == "weight":
            return self._weights.address + self.state.pool.offsets[id(root)] + int(offset)
        if id(root) not in self._places:
            size = evaluated(root.bytes, self.sizes) + _SLACK.get(root.place, 0)
            self._places[id(root)] = (root, _Guarded(size))
        return self._places[id(root)][1].address + int(offset)

    def scratch(self, name: Any, size: int) -> int:
        if name not in self._scratch:
            self._scratch[name] = _Guarded(size + _SLACK["arena"])
        return self._scratch[name].address

    def fill(self, tensor: Tensor, array: np.ndarray) -> None:
        data = np.ascontiguousarray(array, stored_type(tensor.dtype))
        ctypes.memmove(self.address(tensor), data.ctypes.data, data.nbytes)

    def read(self, tensor: Tensor) -> np.ndarray:
        """The tensor's values, wherever its strides say."""
        shape = [int(evaluated(size, self.sizes)) for size in tensor.shape]
        stored = np.dtype(stored_type(tensor.dtype))
        strides = [int(evaluated(s, self.sizes)) * stored.itemsize for s in tensor.strides]
        span = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) // stored.itemsize
        flat = np.empty(max(1, span), stored)
        if 0 not in shape:
            ctypes.memmove(flat.ctypes.data, self.address(tensor), span * stored.itemsize)
        return np.lib.stride_tricks.as_strided(flat, shape, strides).astype(tensor.dtype)


class _Guarded:
    """`size` bytes, all NaN as float32, that end (but for at most 3 bytes) where a forbidden page begins."""

    def __init__(self, size: int, data: bytes | None = None) -> None:
        pages = -(-max(size, 1) // _PAGE)
        self._map = mmap.mmap(-1, (pages + 1) * _PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.address = start + (pages * _PAGE - size) // 64 * 64 if data else start + (pages * _PAGE - size)
        self.address -= self.address % 4
        ctypes.memset(start, 0xFF, pages * _PAGE)
        if data:
            ctypes.memmove(self.address, data, size)
        page = ctypes.c_void_p(start + pages * _PAGE)
        assert _LIBC.mprotect(page, ctypes.c_size_t(_PAGE), 0) == 0
