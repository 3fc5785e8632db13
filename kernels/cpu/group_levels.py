"""Groups of 4-bit levels as kernels read them: packed in words, scales and what else a group needs beside.

A word register holds `lanes` int32, each with a level of 8 vectors: nibble i of lane l is level i * lanes + l
of its 8 * lanes. A step is as many whole registers as make whole groups: on AVX-512 one register of 8 groups
of 16, on 128 bits two of 16; four registers for a group of 128. The groups of an output are padded to whole
steps with groups of scale 0. Beside the words a group has its scale in float16, and `places`: 16 * column +
zero point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..formats.group_sparse_int4 import Groups

__all__ = ["NIBBLES", "GroupLayout", "PackedGroups", "pack_levels"]

NIBBLES = 8  # levels of a word


@dataclass(frozen=True)
class GroupLayout:
    """Groups of `size` levels in registers of `lanes`."""

    size: int
    lanes: int

    @property
    def groups(self) -> int:
        """Groups of a step."""
        return max(1, NIBBLES * self.lanes // self.size)

    @property
    def registers(self) -> int:
        """Registers of words of a step."""
        return max(1, self.size // (NIBBLES * self.lanes))

    @property
    def vectors(self) -> int:
        """Vectors of a group."""
        return self.size // self.lanes


@dataclass(frozen=True)
class PackedGroups:
    """`words` (steps, registers, lanes) int32; `scales` float16 and `places` uint16 or int32, one for each
    group of the steps; `starts` (outputs + 1,) int32: steps of all outputs before each."""

    words: np.ndarray
    scales: np.ndarray
    places: np.ndarray
    starts: np.ndarray

    @property
    def bytes(self) -> int:
        return sum(part.nbytes for part in (self.words, self.scales, self.places, self.starts))


def pack_levels(groups: Groups, layout: GroupLayout) -> PackedGroups:
    """The groups of a weight in steps."""
    counts = np.diff(groups.row_starts)
    steps = -(-counts // layout.groups)
    starts = np.concatenate([[0], np.cumsum(steps)])
    total = int(starts[-1])
    # where each group goes: its output's first step, then in order
    place = (
        starts[groups.rows] * layout.groups + np.arange(len(groups.scale)) - groups.row_starts[groups.rows]
    )
    levels = np.zeros((total * layout.groups, groups.size), np.uint32)
    levels[place] = groups.levels
    scales = np.zeros(total * layout.groups, np.float16)
    scales[place] = groups.scale
    places = np.zeros(total * layout.groups, np.uint16 if groups.across <= 1 << 12 else np.int32)
    places[place] = groups.columns * 16 + groups.zero
    nibbles = levels.reshape(total, layout.registers, NIBBLES, layout.lanes)
    shifts = np.arange(NIBBLES, dtype=np.uint32)[:, None] * np.uint32(4)
    words = np.bitwise_or.reduce(nibbles << shifts, axis=2).view(np.int32)
    return PackedGroups(words, scales, places, starts.astype(np.int32))
