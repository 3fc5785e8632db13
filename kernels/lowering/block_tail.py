"""Blocks of stacked weights at the end of the weights blob, in the order in which they are to be loaded.

A prefix of the blob is a smaller model. Each stack has a table before all blocks: how many of its blocks
there are, and where each lies. Whoever loads a prefix writes the number of those that are in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gossamer.runtime.errors import UnsupportedError

from ..program import BlockInfo

__all__ = ["BlockTail"]

_UNIT = 64  # bytes, in which tables count
_MOST = 1 << 31  # bytes of a blob: kernels count them in 32 bits


@dataclass(frozen=True)
class _Stack:
    """Its table lies at `offset` of the blob; `order[i]` says when block i is loaded."""

    name: str
    offset: int
    blocks: tuple[bytes, ...]
    order: tuple[int, ...]


class BlockTail:
    """Stacks whose blocks are still to be placed."""

    def __init__(self) -> None:
        self.stacks: list[_Stack] = []

    def add(self, name: str, offset: int, blocks: Sequence[bytes], order: Sequence[int]) -> None:
        """A stack whose table lies at `offset`; `order[i]` says when its block i is loaded."""
        self.stacks.append(_Stack(name, offset, tuple(blocks), tuple(order)))

    def place(self, start: int) -> tuple[list[bytes], list[BlockInfo], dict[int, bytes]]:
        """(blocks in order, padded; where they lie; the tables' bytes by offset), behind `start` bytes.

        The first block of every stack comes before all others. Raises UnsupportedError for too large a blob.
        """
        entries = [
            (number > 0, when, which, number)
            for which, stack in enumerate(self.stacks)
            for number, when in enumerate(stack.order)
        ]
        chunks, infos = [], []
        places: list[list[int]] = [[] for _ in self.stacks]
        for _, _, which, number in sorted(entries):
            stack = self.stacks[which]
            data = stack.blocks[number]
            if start + len(data) >= _MOST:
                raise UnsupportedError(
                    "the weights are too large for stacked blocks",
                    where=stack.name,
                    expected=f"{_MOST} bytes",
                )
            digest = hashlib.sha256(data).hexdigest()
            name = f"{stack.name}.{number}"
            infos.append(BlockInfo(name, start, len(data), digest, stack.offset, number + 1))
            places[which].append(start // _UNIT)
            chunks.append(data + bytes(-len(data) % _UNIT))
            start += len(chunks[-1])
        tables = {
            stack.offset: np.array([len(found), *found], "<i4").tobytes()
            for stack, found in zip(self.stacks, places, strict=True)
        }
        return chunks, infos, tables
