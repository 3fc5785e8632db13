"""Calls compiled code in this process with every buffer before a page that must not be touched."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.kernels.program import Program, TensorInfo
from gossamer.runtime.errors import JobError

__all__ = ["run_fenced"]

Array = np.ndarray[Any, np.dtype[Any]]
_PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_NOTHING, _READ, _WRITE = 0, 1, 2


class _Fenced:
    """`size` bytes that end where forbidden memory starts, behind forbidden memory; never given back."""

    def __init__(self, size: int, alignment: int = 1) -> None:
        self.bytes = -(-size // alignment) * alignment
        inner = max(1, -(-self.bytes // _PAGE)) * _PAGE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        start = _libc.mmap(None, inner + 2 * _PAGE, _NOTHING, flags, -1, 0)
        if start is None or start == ctypes.c_void_p(-1).value:
            raise MemoryError(f"{inner} bytes")
        self._first, self._inner = start + _PAGE, inner
        self._protect(_READ | _WRITE)
        self.address = self._first + inner - self.bytes

    def _protect(self, how: int) -> None:
        if _libc.mprotect(self._first, self._inner, how) != 0:
            raise MemoryError(f"{self._inner} bytes")

    def fill(self, data: bytes) -> None:
        """Write `data` and allow reading only."""
        ctypes.memmove(self.address, data, len(data))
        self._protect(_READ)

    def read(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        """A copy of the start as an array."""
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        return np.frombuffer(ctypes.string_at(self.address, size), dtype).reshape(shape).copy()


def run_fenced(program: Program, code: bytes, feeds: Mapping[str, Array]) -> list[Array]:
    """Outputs of the entry, called on one thread. Reading or writing outside a buffer ends the process."""
    entry = _linked(code, program.symbol)
    inputs = [_filled(np.ascontiguousarray(feeds[t.name]).tobytes()) for t in program.inputs]
    outputs = [_Fenced(_bytes(t)) for t in program.outputs]
    weights = _filled(program.weights, 64)
    arena = _Fenced(program.arena_bytes, 64)
    ctypes.memset(arena.address, 0xFF, arena.bytes)  # NaN
    places = [*inputs, *outputs, weights, arena]
    entry.argtypes = [ctypes.c_void_p] * len(places) + [ctypes.c_int32] * 2 + [ctypes.c_void_p]
    status = entry(*(place.address for place in places), 0, 1, None)
    if status != 0:
        raise JobError("the entry failed", got=status)
    pairs = zip(program.outputs, outputs, strict=True)
    return [place.read(np.dtype(t.dtype), _shape(t)) for t, place in pairs]


def _filled(data: bytes, alignment: int = 1) -> _Fenced:
    place = _Fenced(len(data), alignment)
    place.fill(data)
    return place


def _bytes(tensor: TensorInfo) -> int:
    return int(np.prod(_shape(tensor), dtype=np.int64)) * np.dtype(tensor.dtype).itemsize


def _shape(tensor: TensorInfo) -> tuple[int, ...]:
    """Mutants are compiled with every input's size given."""
    return tuple(int(size) for size in tensor.shape)


def _linked(code: bytes, symbol: str) -> Any:
    """The function `symbol` of an object file."""
    found = find_spec("ziglang")
    assert found is not None
    assert found.origin is not None
    linker = Path(found.origin).with_name("zig")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "code.o").write_bytes(code)
        command = [str(linker), "ld.lld", "-shared", "--defsym=gossamer_sync=0", "code.o", "-o", "code.so"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return getattr(ctypes.CDLL(str(Path(folder) / "code.so")), symbol)
