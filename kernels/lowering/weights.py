"""Collects constants into the weights blob: each 64-byte aligned, equal ones stored once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from ..cpu.tensor import Tensor, contiguous
from ..program import BlockInfo, WeightInfo
from .block_tail import BlockTail

__all__ = ["WeightPool"]

ALIGNMENT = 64
SLACK = 512  # bytes that a vector read may touch past the last weight


class WeightPool:
    """The blob under construction."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self._numbers: dict[int, int] = {}  # id(tensor) -> chunk
        self._known: dict[tuple[str, tuple[int, ...], bytes], Tensor] = {}
        self.offsets: dict[int, int] = {}  # id(tensor) -> byte offset
        self.table: list[WeightInfo] = []
        self.blocks: list[BlockInfo] = []  # known once the blob is made
        self._tail = BlockTail()
        self._whole: list[Tensor] = []
        self._stacks: dict[bytes, Tensor] = {}

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
            self._numbers[id(tensor)] = len(self._chunks)
            self._chunks += [data, bytes(padding)]
            self._size += len(data) + padding
            self._known[key] = tensor
        return self._known[key]

    def add_stack(
        self, name: str, blocks: Sequence[bytes], order: Sequence[int], packing: str
    ) -> tuple[Tensor, Tensor]:
        """All weights (uint8), and the table of a stack of blocks, whose first ones may be loaded alone.

        The table is int32 [1 + blocks]: how many blocks there are, and where in the weights each lies, in
        units of 64 bytes. `order[i]` says when block i is loaded, of those of all stacks.
        """
        digest = hashlib.sha256(repr((list(order), packing)).encode() + b"".join(blocks)).digest()
        if digest not in self._stacks:
            # a number of its own, so that no two tables are one
            empty = np.full(1 + len(blocks), -1 - len(self._stacks), np.int32)
            table = self._stacks[digest] = self.add(f"{name}.table", empty, "places of blocks")
            self._tail.add(name, self.offsets[id(table)], blocks, order)
        size = sum(len(block) for block in blocks)
        everything = Tensor(name, "uint8", (size,), (1,), "weight")
        self.offsets[id(everything)] = 0
        self._whole.append(everything)  # it lives as long as its id is known
        return everything, self._stacks[digest]

    def data(self, tensor: Tensor) -> bytes | None:
        """The bytes of a tensor of this pool, None for any other tensor."""
        number = self._numbers.get(id(tensor))
        return None if number is None else self._chunks[number]

    def blob(self) -> bytes:
        """All weights, blocks of stacks last, with room for reads past the last one."""
        chunks, self.blocks, tables = self._tail.place(self._size)
        head = bytearray(b"".join(self._chunks))
        for offset, table in tables.items():
            head[offset : offset + len(table)] = table
        return b"".join([head, *chunks, bytes(SLACK)])
