"""Times kernels on this machine: compiled into one library, called in turns, medians compared."""

from __future__ import annotations

import ctypes
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tvm
from tvm import ir

from ..building.toolchain import zig
from ..cpu.isa import Isa
from ..cpu.kernel import Kernel
from ..cpu.tensor import ITEM_BYTES, Tensor
from ..lowering.emit import compiled_module
from ..lowering.entry import as_c_function
from ..lowering.ways import Trial

__all__ = ["in_turns", "measure"]

_SECONDS = 0.03  # for each trial
_SPAN = 50e-6  # of one reading of the clock, at least
_ROUNDS = 3  # at least
_SLACK = 4096  # bytes that vector reads may touch past the end of a tensor
_ALIGNMENT = 64

Call = Callable[[], None]


def measure(trials: Sequence[Trial], isa: Isa) -> list[float]:
    """Median seconds of each trial on one thread, weights as they are and random activations.

    Trials take turns, so that a disturbance meets them all. Raises ToolError.
    """
    with tempfile.TemporaryDirectory() as folder:
        functions = _load(trials, isa, Path(folder))
        memory = _Memory()
        calls = [_sequence(trial, functions, memory, isa) for trial in trials]
        return in_turns(calls)


def _load(trials: Sequence[Trial], isa: Isa, folder: Path) -> dict[Any, Any]:
    """C functions by key of their kernels. The library stays loaded: code that ran is not taken away."""
    kernels = {kernel.key: kernel for trial in trials for kernel in trial.kernels}
    names = {key: f"k{i}" for i, key in enumerate(kernels)}
    module = tvm.IRModule(
        {ir.GlobalVar(name): as_c_function(kernels[key].build(isa), name) for key, name in names.items()}
    )
    compiled_module(module, isa).write_to_file(str(folder / "kernels.o"))
    loaded = ctypes.CDLL(str(_link(folder / "kernels.o", folder / "kernels.so", isa)))
    return {key: getattr(loaded, name) for key, name in names.items()}


def _link(code: Path, library: Path, isa: Isa) -> Path:
    """A library without libraries: what it lacks (memcpy) is in this process."""
    if isa.target.container == "elf":
        zig("ld.lld", "-shared", code, "-o", library)
    else:
        zig("cc", "-target", isa.target.zig, "-shared", code, "-o", library)
    return library


class _Memory:
    """One aligned buffer for each tensor that owns memory."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self._buffers: dict[int, tuple[Tensor, np.ndarray[Any, Any], int]] = {}  # the tensor keeps its id
        self._scratch: dict[int, tuple[np.ndarray[Any, Any], int]] = {}

    def address(self, tensor: Tensor, weight: Callable[[Tensor], bytes | None]) -> int:
        """Where the tensor's first element lies."""
        root = tensor.root
        if id(root) not in self._buffers:
            self._buffers[id(root)] = (root, *self._filled(root, weight(root)))
        return self._buffers[id(root)][2] + tensor.root_offset * ITEM_BYTES[root.dtype]

    def scratch(self, size: int) -> int:
        """Where so many bytes of scratch lie."""
        if size not in self._scratch:
            self._scratch[size] = _aligned(size)
        return self._scratch[size][1]

    def _filled(self, root: Tensor, data: bytes | None) -> tuple[np.ndarray[Any, Any], int]:
        buffer, address = _aligned(len(data) if data is not None else root.bytes)
        if data is not None:
            ctypes.memmove(address, data, len(data))
        elif root.dtype == "float32":
            values = self._rng.standard_normal(root.bytes // 4, np.float32)
            ctypes.memmove(address, values.ctypes.data, values.nbytes)
        return buffer, address


def _aligned(size: int) -> tuple[np.ndarray[Any, Any], int]:
    buffer = np.zeros(size + _SLACK + _ALIGNMENT, np.uint8)
    return buffer, -(-buffer.ctypes.data // _ALIGNMENT) * _ALIGNMENT


def _sequence(trial: Trial, functions: dict[Any, Any], memory: _Memory, isa: Isa) -> Call:
    """One call that runs the trial's kernels in order."""
    bound = [_bound(kernel, functions[kernel.key], trial, memory, isa) for kernel in trial.kernels]

    def run() -> None:
        for function, arguments in bound:
            function(*arguments)

    return run


def _bound(kernel: Kernel, function: Any, trial: Trial, memory: _Memory, isa: Isa) -> tuple[Any, list[Any]]:
    addresses = [memory.address(t, trial.weight) for t in (*kernel.reads(), *kernel.writes())]
    if size := kernel.scratch_bytes(isa):
        addresses.append(memory.scratch(size))
    thread, threads = ctypes.c_int32(0), ctypes.c_int32(1)
    return function, [*map(ctypes.c_void_p, addresses), thread, threads]


def in_turns(calls: Sequence[Call], clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Median seconds of each call."""
    for call in calls:
        call()
    repeats = [max(1, round(_SPAN / max(_reading(call, 1, clock), 1e-9))) for call in calls]
    readings: list[list[float]] = [[] for _ in calls]
    end = clock() + _SECONDS * len(calls)
    while len(readings[0]) < _ROUNDS or clock() < end:
        for call, count, found in zip(calls, repeats, readings, strict=True):
            found.append(_reading(call, count, clock))
    return [median(found) for found in readings]


def _reading(call: Call, count: int, clock: Callable[[], float]) -> float:
    """Seconds of one call, the mean of `count`."""
    start = clock()
    for _ in range(count):
        call()
    return (clock() - start) / count
