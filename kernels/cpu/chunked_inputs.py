"""Inputs of a grouped weight in chunks: what shares a scale of activations, and is summed in int32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["ChunkedInputs", "chunked_inputs"]

_SIZES = (64, 32, 16)
_WASTE = 1.1  # inputs that are multiplied, padding included, for each there is


@dataclass(frozen=True)
class ChunkedInputs:
    """`inputs` in groups of `group`, each in chunks of `size`, the last of which may be short."""

    inputs: int
    group: int
    size: int

    @property
    def runs(self) -> list[tuple[int, int, int]]:
        """(groups, inputs of each, chunks of each): the whole groups and the last."""
        whole, rest = divmod(self.inputs, self.group)
        runs = [(whole, self.group), (1, rest)]
        return [(count, length, -(-length // self.size)) for count, length in runs if count and length]

    @property
    def count(self) -> int:
        """Chunks of all groups."""
        return sum(count * chunks for count, _, chunks in self.runs)

    @property
    def places(self) -> npt.NDArray[np.int64]:
        """(count * size,): the input of each place, `inputs` where there is none."""
        found, first = [], 0
        for count, length, chunks in self.runs:
            inside = np.arange(chunks * self.size)
            starts = first + length * np.arange(count)[:, None]
            found.append(np.where(inside < length, starts + inside, self.inputs).reshape(-1))
            first += count * length
        return np.concatenate(found)


def chunked_inputs(inputs: int, group: int) -> ChunkedInputs:
    """The largest chunks that leave few places empty."""
    group = min(group, inputs)
    size = next((s for s in _SIZES if -(-group // s) * s <= _WASTE * group), _SIZES[-1])
    return ChunkedInputs(inputs, group, size)
