"""Axes of values, and how they are tied: what the order of one says about the order of another.

    same   two whole axes keep one order: the channels of a convolution's result and of its bias
    part   single positions go together: the second half of a Concat and its second operand
    merge  each position of one axis is a position of each of several: Flatten of [C, H, W]
    pin    positions that stay where they are: those of the model's inputs and outputs
    mark   positions change places only with those of the same mark: the groups of a convolution

`Classes` (classes.py) are what follows from all ties together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

__all__ = ["LARGEST_AXIS", "Axis", "GroupedWeight", "Merge", "Part", "Pin", "Positions", "Ties"]

Axis = tuple[ir.Value, int]
"""A value and one of its axes, counted from the front."""
Positions = npt.NDArray[np.int64]
LARGEST_AXIS = 1 << 18
"""Longer axes stay as they are: no layer has as many channels, and each takes memory here."""


@dataclass(frozen=True)
class Part:
    """Position `here[i]` of axis `first` and `there[i]` of axis `second` go together."""

    first: int
    here: Positions
    second: int
    there: Positions


@dataclass(frozen=True)
class Merge:
    """Position i of axis `whole` stands for position `coordinates[j][i]` of axis `axes[j]`, for every j."""

    whole: int
    axes: tuple[int, ...]
    coordinates: tuple[Positions, ...]


@dataclass(frozen=True)
class Pin:
    """Positions of an axis that stay where they are, all if None, and why."""

    axis: int
    positions: Positions | None
    reason: str


@dataclass(frozen=True)
class GroupedWeight:
    """The weight [O, I / groups, ...] of a grouped convolution, whose rows each read their group of
    `inputs`."""

    weight: ir.Value
    inputs: int
    groups: int


class Ties:
    """What the nodes of a graph say about the axes of its values; an axis has a number."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.merges: list[Merge] = []
        self.pins: list[Pin] = []
        self.marks: list[tuple[int, Positions]] = []
        self.grouped: list[GroupedWeight] = []
        self.sizes: list[int] = []
        self.named: set[Axis] = set()
        self._numbers: dict[Axis, int] = {}
        self._parents: list[int] = []

    def root(self, number: int) -> int:
        """The number that stands for all axes that are the same as this one."""
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number

    def number(self, axis: Axis) -> int:
        """The number of an axis; one whose size is not known, or too large, is pinned."""
        if axis not in self._numbers:
            size = size_of(axis)
            number = self._numbers[axis] = len(self._parents)
            self._parents.append(number)
            self.sizes.append(size if size is not None and size <= LARGEST_AXIS else 0)
            if size is None:
                self.pins.append(Pin(number, None, f"{axis[0].name}: size {axis[1]} is not known"))
            elif size > LARGEST_AXIS:
                self.pins.append(Pin(number, None, f"{axis[0].name} is longer than {LARGEST_AXIS}"))
        return self._numbers[axis]

    def known(self, axis: Axis) -> int | None:
        """The number that stands for `axis`, None where nothing was said of it."""
        number = self._numbers.get(axis)
        return None if number is None else self.root(number)

    def free(self, *axes: Axis) -> None:
        """The node gives the same, whatever the order of these axes."""
        self.named.update(axes)

    def same(self, first: Axis, *others: Axis) -> None:
        """These axes keep one order. Where sizes differ or are unknown, all of them are pinned."""
        self.free(first, *others)
        one = self.root(self.number(first))
        for other in others:
            two = self.root(self.number(other))
            if self.sizes[one] != self.sizes[two]:
                reason = f"{first[0].name} and {other[0].name} are of different sizes"
                self.pins += [Pin(one, None, reason), Pin(two, None, reason)]
            elif one != two:
                self._parents[max(one, two)] = min(one, two)
                one = min(one, two)

    def part(self, first: Axis, here: Iterable[int], second: Axis, there: Iterable[int]) -> None:
        """Positions `here` of `first` go together with positions `there` of `second`, in that order."""
        self.free(first, second)
        places = _positions(here), _positions(there)
        if self._fit((first, second), places):
            self.parts.append(Part(self.number(first), places[0], self.number(second), places[1]))

    def merge(self, whole: Axis, axes: Sequence[Axis], coordinates: Sequence[Iterable[int]]) -> None:
        """Position i of `whole` stands for position `coordinates[j][i]` of `axes[j]`, for every j."""
        self.free(whole, *axes)
        found = tuple(_positions(each) for each in coordinates)
        size = size_of(whole)
        if self._fit((whole, *axes), (np.arange(size or 0), *found)):
            self.merges.append(Merge(self.number(whole), tuple(map(self.number, axes)), found))

    def pin(self, axis: Axis, reason: str, positions: Iterable[int] | None = None) -> None:
        """`positions` of `axis` stay where they are, all of them if None."""
        self.free(axis)
        where = None if positions is None else _positions(positions)
        self.pins.append(Pin(self.number(axis), where, reason))

    def mark(self, axis: Axis, marks: Iterable[int]) -> None:
        """Positions of `axis` change places only with those of the same mark."""
        self.marks.append((self.number(axis), _positions(marks)))

    def _fit(self, axes: Sequence[Axis], places: Sequence[Positions]) -> bool:
        """Whether all positions lie inside their axes, whose sizes are known; all axes are pinned if not."""
        sizes = [self.sizes[self.number(axis)] for axis in axes]
        lengths = {len(each) for each in places}
        inside = all(n > 0 and (p < n).all() and (p >= 0).all() for n, p in zip(sizes, places, strict=True))
        if len(lengths) == 1 and inside:
            return True
        for axis in axes:
            self.pin(axis, f"the sizes around {axes[0][0].name} do not fit together")
        return False

    def group(self, weight: ir.Value, inputs: Axis, groups: int) -> None:
        """`weight` is that of a convolution whose rows each read one of the groups of `inputs`."""
        self.grouped.append(GroupedWeight(weight, self.number(inputs), groups))


def size_of(axis: Axis) -> int | None:
    """How long an axis is, None where that is not known."""
    value, index = axis
    size = value.shape[index] if value.shape is not None and index < len(value.shape) else None
    return size if isinstance(size, int) else None


def _positions(given: Iterable[int]) -> Positions:
    return np.asarray(list(given) if not isinstance(given, np.ndarray) else given, np.int64).reshape(-1)
