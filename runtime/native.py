"""Runs native code through the C interface that is linked into every shared library."""

from __future__ import annotations

import _ctypes
import ctypes
import mmap
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .artifact import Artifact
from .errors import ArtifactError, JobError
from .machine import check_machine

__all__ = ["NativeEngine"]

Array = np.ndarray[Any, np.dtype[Any]]


class NativeEngine:
    """A session of the C runtime. `run` releases the interpreter lock; one call at a time, closed once."""

    def __init__(self, artifact: Artifact, threads: int) -> None:
        manifest = artifact.manifest
        shared = artifact.code("shared")
        if not shared:
            raise ArtifactError(
                "holds no shared library",
                where=artifact.path,
                expected="a code file with role shared",
                got=", ".join(code.file for code in manifest.code),
                advice="link its object or static library into a program",
            )
        check_machine(manifest.target)
        self._library = _Library.load(artifact.file(shared[0].file))
        self._session = ctypes.c_void_p()
        self._weights: mmap.mmap | None = None
        self._closed = False
        try:
            self._open(artifact, threads)
        except BaseException:
            self.close()
            raise
        self._outputs = [(tensor.shape, np.dtype(tensor.dtype)) for tensor in manifest.outputs]
        self._input_type = ctypes.c_void_p * len(manifest.inputs)
        self._output_type = ctypes.c_void_p * len(manifest.outputs)

    def _open(self, artifact: Artifact, threads: int) -> None:
        manifest = artifact.manifest
        model = self._library.address(f"gossamer_model_{manifest.symbol}")
        session = ctypes.byref(self._session)
        if manifest.weights.file is None:
            status = self._library.code.gossamer_open(model, None, threads, session)
        else:
            size = manifest.weights.bytes
            address, self._weights = _map(artifact.file(manifest.weights.file), size)
            status = self._library.code.gossamer_open_memory(model, address, size, threads, session)
        if status != 0:
            raise ArtifactError("cannot be opened", where=artifact.path, got=self._library.error(status))

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Fresh outputs for contiguous `inputs` of the model's shapes and types. Raises JobError."""
        outputs = [np.empty(shape, dtype) for shape, dtype in self._outputs]
        status = self._library.code.gossamer_run(
            self._session,
            self._input_type(*(array.ctypes.data for array in inputs)),
            self._output_type(*(array.ctypes.data for array in outputs)),
        )
        if status != 0:
            raise JobError("the model failed", got=self._library.error(status))
        return outputs

    def close(self) -> None:
        """Frees the session, then its weights, then the code. May be called again."""
        if self._closed:
            return
        self._closed = True
        if self._session:
            self._library.code.gossamer_close(self._session)
            self._session = ctypes.c_void_p()
        self._weights = None  # unmapped when the last reference goes
        self._library.close()


def _map(path: Path, size: int) -> tuple[int | None, mmap.mmap | None]:
    """The address of the mapped file, and the mapping, which must outlive its use; None when it is empty."""
    if size == 0:
        return None, None
    with path.open("rb") as stream:
        mapping = mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ)
    return np.frombuffer(mapping, np.uint8).ctypes.data, mapping


class _Library:
    """A loaded shared library, shared by the sessions that use one file.

    The loader takes a library whose path it knows for the one it has, also when the file was replaced
    meanwhile. So a file is loaded under the name of its descriptor, which stays open, and so belongs to no
    other file, as long as the library is loaded.
    """

    _loaded: ClassVar[dict[tuple[int, int], _Library]] = {}  # by device and inode
    _lock: ClassVar[threading.RLock] = threading.RLock()  # the collector may close a session inside `load`

    def __init__(self, path: Path, descriptor: int, key: tuple[int, int]) -> None:
        self._descriptor, self._key, self._users = descriptor, key, 0
        own = f"/proc/{os.getpid()}/fd/{descriptor}"
        try:
            self.code = ctypes.CDLL(own if os.path.exists(own) else str(path))
            self._declare()
        except (OSError, AttributeError) as error:
            text = str(error).replace(own, path.name)
            raise ArtifactError("cannot be loaded", where=path, got=text) from error

    @classmethod
    def load(cls, path: Path) -> _Library:
        """The library in file `path`; each call needs one `close`. Raises ArtifactError."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(descriptor)
        key = (status.st_dev, status.st_ino)
        with cls._lock:
            found = cls._loaded.get(key)
            if found is not None:
                found._users += 1
                os.close(descriptor)
                return found
            try:
                cls._loaded[key] = made = cls(path, descriptor, key)
            except BaseException:
                os.close(descriptor)
                raise
            made._users = 1
            return made

    def _declare(self) -> None:
        pointer, number = ctypes.c_void_p, ctypes.c_int32
        self.code.gossamer_open.argtypes = [pointer, ctypes.c_char_p, number, pointer]
        self.code.gossamer_open_memory.argtypes = [pointer, pointer, ctypes.c_size_t, number, pointer]
        self.code.gossamer_run.argtypes = [pointer, pointer, pointer]
        self.code.gossamer_close.argtypes = [pointer]
        self.code.gossamer_close.restype = None
        self.code.gossamer_error.argtypes = [number]
        self.code.gossamer_error.restype = ctypes.c_char_p

    def address(self, symbol: str) -> int:
        """The address of a data symbol. Raises ArtifactError where there is none."""
        try:
            return ctypes.addressof(ctypes.c_char.in_dll(self.code, symbol))
        except ValueError as error:
            raise ArtifactError("the code holds no such model", where=symbol) from error

    def error(self, status: int) -> str:
        """The words of the C runtime for a status."""
        return bytes(self.code.gossamer_error(status)).decode()

    def close(self) -> None:
        """Unloads the library when nobody uses it any more."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                _ctypes.dlclose(self.code._handle)
                os.close(self._descriptor)
                del self._loaded[self._key]
