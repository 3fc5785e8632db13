"""Collects constants into the weights blob: each 64-byte aligned, equal ones stored once."""

from __future__ import annotations

import hashlib

import numpy as np

from ..cpu.tensor import Tensor, contiguous
from ..program import WeightInfo

__all__ = ["WeightPool"]

ALIGNMENT = 64
SLACK = 512  # bytes that a vector read may touch past the last weight


class WeightPool:
    """The blob under construction."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self._known: dict[tuple[str, tuple[int, ...], bytes], Tensor] = {}
        self.offsets: dict[int, int] = {}  # id(tensor) -> byte offset
        self.table: list[WeightInfo] = []

    def add(self, name: str, array: np.ndarray, packing: str = "raw") -> Tensor:
        """The tensor that holds `array` (booleans are stored as uint8)."""
        dtype = str(array.dtype)
        data = np.ascontiguousarray(array).tobytes()
        key = (dtype, array.shape, hashlib.sha256(data).digest())
        if key not in self._known:
            tensor = Tensor(name, dtype, array.shape, contiguous(array.shape), "weight")
            self.offsets[id(tensor)] = self._size
            self.table.append(WeightInfo(name, self._size, len(data), dtype, packing))
            padding = -len(data) % ALIGNMENT
            self._chunks += [data, bytes(padding)]
            self._size += len(data) + padding
            self._known[key] = tensor
        return self._known[key]

    def data(self, tensor: Tensor) -> bytes | None:
        """The bytes of a tensor of this pool, None for any other tensor."""
        if id(tensor) not in self.offsets:
            return None
        return self._chunks[2 * list(self.offsets).index(id(tensor))]  # each is followed by its padding

    def blob(self) -> bytes:
        """All weights, with room for reads past the last one."""
        return b"".join([*self._chunks, bytes(SLACK)])
