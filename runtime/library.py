"""A model's shared library, loaded through ctypes; gossamer.h is the other side of what is declared here."""

from __future__ import annotations

import _ctypes
import ctypes
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from .errors import ArtifactError
from .manifest import Manifest, TensorSpec

__all__ = ["Library"]

API_VERSION = 3


class _Tensor(ctypes.Structure):
    _fields_: ClassVar = [
        ("name", ctypes.c_char_p),
        ("dtype", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("bytes", ctypes.c_size_t),
    ]


class _Model(ctypes.Structure):
    _fields_: ClassVar = [
        ("api_version", ctypes.c_uint32),
        ("threads", ctypes.c_int32),
        ("name", ctypes.c_char_p),
        ("input_count", ctypes.c_int32),
        ("output_count", ctypes.c_int32),
        ("inputs", ctypes.POINTER(_Tensor)),
        ("outputs", ctypes.POINTER(_Tensor)),
        ("weights_bytes", ctypes.c_size_t),
        ("arena_bytes", ctypes.c_size_t),
        ("scratch_bytes", ctypes.c_size_t),
        ("table_count", ctypes.c_int32),
    ]


class Library:
    """A loaded shared library, shared by the sessions that use one file.

    The loader takes a library whose path it knows for the one it has, also when the file was replaced
    meanwhile. So a file is loaded under the name of its descriptor, which stays open, and so belongs to no
    other file, as long as the library is loaded.
    """

    _loaded: ClassVar[dict[tuple[int, int], Library]] = {}  # by device and inode
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
    def load(cls, path: Path) -> Library:
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
        self.code.gossamer_profile.argtypes = [pointer, pointer, pointer, pointer, number]
        self.code.gossamer_sizes.argtypes = [pointer, pointer]
        self.code.gossamer_run_sized.argtypes = [pointer, pointer, pointer, pointer]
        self.code.gossamer_profile_sized.argtypes = [pointer, pointer, pointer, pointer, pointer, number]
        self.code.gossamer_close.argtypes = [pointer]
        self.code.gossamer_close.restype = None
        self.code.gossamer_error.argtypes = [number]
        self.code.gossamer_error.restype = ctypes.c_char_p

    def model(self, manifest: Manifest) -> int:
        """The address of the model's descriptor. Raises ArtifactError where it is not what `manifest` says.

        The code reads and writes as many bytes as it was compiled for, so the sizes must agree.
        """
        symbol = f"gossamer_model_{manifest.symbol}"
        try:
            model = _Model.in_dll(self.code, symbol)
        except ValueError as error:
            raise ArtifactError("the code holds no such model", where=symbol) from error
        if model.api_version != API_VERSION:
            raise ArtifactError(
                "the code has another version of the C interface", expected=API_VERSION, got=model.api_version
            )
        count = 0 if manifest.table is None else manifest.table.count
        if model.table_count != count:
            raise ArtifactError(
                "manifest and code disagree about the table", expected=model.table_count, got=count
            )
        _compare("inputs", manifest.inputs, [model.inputs[i] for i in range(model.input_count)])
        _compare("outputs", manifest.outputs, [model.outputs[i] for i in range(model.output_count)])
        return ctypes.addressof(model)

    def error(self, status: int) -> str:
        """The words of the C runtime for a status."""
        return bytes(self.code.gossamer_error(status)).decode()

    def close(self) -> None:
        """Unloads the library when nobody uses it any more."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                _ctypes.dlclose(self.code._handle)
                if not self._stays():
                    del self._loaded[self._key]
                    os.close(self._descriptor)

    def _stays(self) -> bool:
        """Whether somebody else in the process keeps the file loaded; then so do we, as its name must not
        come again."""
        try:
            _ctypes.dlopen(self.code._name, os.RTLD_NOLOAD | os.RTLD_LAZY)
        except OSError:
            return False
        return True


def _compare(kind: str, tensors: Sequence[TensorSpec], compiled: Sequence[_Tensor]) -> None:
    expected = [(tensor.name.encode("utf-8", "replace"), *_signature(tensor)) for tensor in tensors]
    got = [(tensor.name, tensor.bytes, tuple(tensor.shape[: tensor.rank])) for tensor in compiled]
    if expected != got:
        raise ArtifactError(
            f"manifest and code disagree about the {kind}", expected=got[:8], got=expected[:8]
        )


def _signature(tensor: TensorSpec) -> tuple[int, tuple[int, ...]]:
    """Bytes and shape as the code's description gives them: -(place + 1) for a size in the table."""
    slots = tensor.slots or (-1,) * len(tensor.shape)
    sizes = zip(tensor.shape, slots, strict=True)
    return tensor.bytes, tuple(-1 - slot if slot >= 0 else int(size) for size, slot in sizes)
