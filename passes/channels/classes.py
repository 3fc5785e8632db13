"""From ties to the sets of channels that may change places.

Positions that are tied are one *strand*. Strands that hang together through merged axes (a channel and its
pixels after Flatten) are one *channel*. Two channels may change places where both run through the same axes
in the same way: then exchanging them maps every tie onto itself. All channels that may change places with
each other are one `ChannelSet`; sets are independent of each other, and any permutation within each is legal.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from .axes import Axis, Merge, Positions, Ties

__all__ = ["ChannelSet", "Classes", "components"]

_MOST_POSITIONS = 1 << 22


@dataclass(frozen=True)
class ChannelSet:
    """Channels that may change places: for each axis (by its number) the positions of each channel.

    Each array is int64 [channels, positions of one channel in that axis].
    """

    positions: Mapping[int, Positions]

    def __len__(self) -> int:
        return len(next(iter(self.positions.values())))


class Classes:
    """What the ties of a graph leave free.

    `sets` are in the order in which their axes appear in the graph.
    """

    def __init__(self, ties: Ties) -> None:
        self._ties = ties
        self._reasons: dict[int, str] = {}
        self._whole = self._whole_pins()
        roots = sorted({ties.root(n) for n in range(len(ties.sizes))} - set(self._whole))
        starts = np.cumsum([0, *(ties.sizes[root] for root in roots)])
        self._starts = dict(zip(roots, starts.tolist(), strict=False))
        self._strands = self._tied(int(starts[-1]))
        self._pinned = self._pins(len(self._strands))
        self.sets = self._sets()

    def reason(self, axis: Axis) -> str:
        """Why no position of `axis` may change places with another; empty if one may."""
        root = self._ties.known(axis)
        if root is None or root in self._whole:
            return self._whole.get(root, "nothing ties it") if root is not None else "nothing ties it"
        if any(root in found.positions for found in self.sets):
            return ""
        start = self._starts[root]
        strands = self._strands[start : start + self._ties.sizes[root]].tolist()
        reasons = [self._reasons[s] for s in strands if s in self._reasons]
        return reasons[0] if reasons else "no two of its channels are used alike"

    def _whole_pins(self) -> dict[int, str]:
        """Axes of which no position is free, and why."""
        whole = dict[int, str]()
        for pin in self._ties.pins:
            if pin.positions is None:
                whole.setdefault(self._ties.root(pin.axis), pin.reason)
        left = sorted({self._ties.root(n) for n in range(len(self._ties.sizes))} - set(whole))
        # the shortest axes first: real networks stay far below, a file may claim anything
        left.sort(key=lambda root: self._ties.sizes[root])
        lengths = np.cumsum([self._ties.sizes[root] for root in left])
        too_many = left[int(np.searchsorted(lengths, _MOST_POSITIONS, side="right")) :]
        return whole | dict.fromkeys(too_many, f"all axes together are longer than {_MOST_POSITIONS}")

    def _at(self, axis: int, positions: Positions) -> Positions:
        """Numbers of positions of `axis`, which has some that are free."""
        found: Positions = positions + self._starts[self._ties.root(axis)]
        return found

    def _tied(self, count: int) -> Positions:
        """The strand of each position: the least of all those that are tied to it."""
        edges = [
            (self._at(part.first, part.here), self._at(part.second, part.there))
            for part in self._ties.parts
            if not {self._ties.root(part.first), self._ties.root(part.second)} & set(self._whole)
        ]
        return components(count, edges)

    def _pins(self, count: int) -> np.ndarray:
        """Which strands stay where they are: bool, by the number of the strand."""
        pinned = np.zeros(count, bool)
        for axis, positions, reason in self._first_pins():
            self._pin(pinned, self._strands[self._at(axis, positions)], reason)
        while True:
            before = pinned.sum()
            for merge in self._ties.merges:
                self._pin_through(pinned, merge)
            if pinned.sum() == before:
                return pinned

    def _first_pins(self) -> Iterable[tuple[int, Positions, str]]:
        for pin in self._ties.pins:
            if pin.positions is not None and self._ties.root(pin.axis) not in self._whole:
                yield pin.axis, pin.positions, pin.reason
        for part in self._ties.parts:
            sides = (part.first, part.here, part.second), (part.second, part.there, part.first)
            for axis, positions, other in sides:
                fixed = self._whole.get(self._ties.root(other))
                if fixed is not None and self._ties.root(axis) not in self._whole:
                    yield axis, positions, fixed

    def _pin(self, pinned: np.ndarray, strands: Positions, reason: str) -> None:
        new = np.unique(strands[~pinned[strands]])
        pinned[new] = True
        self._reasons.update(dict.fromkeys(new.tolist(), reason))

    def _pin_through(self, pinned: np.ndarray, merge: Merge) -> None:
        """A position of the whole axis stays if all it stands for stay; they stay if it does."""
        every = np.arange(len(merge.coordinates[0]))
        sides = list(zip(merge.axes, merge.coordinates, strict=True))
        held = np.logical_and.reduce([self._fixed(pinned, axis, at) for axis, at in sides])
        if self._ties.root(merge.whole) not in self._whole:
            reason = next(filter(None, (self._reason_of(pinned, *side) for side in sides)), "")
            self._pin(pinned, self._strands[self._at(merge.whole, every[held])], reason)
        fixed = self._fixed(pinned, merge.whole, every)
        reason = self._reason_of(pinned, merge.whole, every)
        for axis, at in sides:
            if self._ties.root(axis) not in self._whole:
                self._pin(pinned, self._strands[self._at(axis, at[fixed])], reason)

    def _fixed(self, pinned: np.ndarray, axis: int, at: Positions) -> np.ndarray:
        """Which of the positions `at` of `axis` stay: bool."""
        if self._ties.root(axis) in self._whole:
            return np.ones(len(at), bool)
        fixed: np.ndarray = pinned[self._strands[self._at(axis, at)]]
        return fixed

    def _reason_of(self, pinned: np.ndarray, axis: int, at: Positions) -> str:
        """Why the first of the positions `at` of `axis` stays that does; empty if none does."""
        root = self._ties.root(axis)
        if root in self._whole:
            return self._whole[root]
        strands = self._strands[self._at(axis, at)]
        first = strands[pinned[strands]][:1].tolist()
        return self._reasons[first[0]] if first else ""

    def _sets(self) -> list[ChannelSet]:
        forms = self._forms()
        alike = defaultdict[tuple[object, ...], list[int]](list)
        for channel, form in forms.items():
            alike[tuple(form.marks)].append(channel)
        found = [
            ChannelSet(
                {
                    root: np.asarray([forms[channel].places[root] for channel in channels])
                    for root in forms[channels[0]].places
                }
            )
            for channels in alike.values()
            if len(channels) > 1
        ]
        return sorted(found, key=lambda one: next((root, at.min()) for root, at in one.positions.items()))

    def _channels(self) -> Positions:
        """The channel of each strand that is free: the least strand of it."""
        edges = []
        for merge in self._ties.merges:
            if self._ties.root(merge.whole) in self._whole:
                continue
            inner = self._strands[self._at(merge.whole, np.arange(len(merge.coordinates[0])))]
            for axis, at in zip(merge.axes, merge.coordinates, strict=True):
                if self._ties.root(axis) not in self._whole:
                    outer = self._strands[self._at(axis, at)]
                    free = ~self._pinned[outer] & ~self._pinned[inner]
                    edges.append((outer[free], inner[free]))
        return components(len(self._strands), edges)

    def _forms(self) -> dict[int, _Form]:
        """How each channel runs through the graph."""
        channels = self._channels()
        forms = defaultdict[int, _Form](_Form)
        marks = defaultdict[int, list[Positions]](list)
        for axis, given in self._ties.marks:
            marks[self._ties.root(axis)].append(given)
        for root in self._starts:
            strands = self._strands[self._at(root, np.arange(self._ties.sizes[root]))]
            free = np.flatnonzero(~self._pinned[strands])
            colours = [tuple(given[free].tolist()) for given in marks.get(root, [])]
            for i, (position, strand) in enumerate(zip(free.tolist(), strands[free].tolist(), strict=True)):
                mark = tuple(colour[i] for colour in colours)
                forms[int(channels[strand])].add(root, position, strand, mark)
        for number in range(len(self._ties.merges)):
            self._add_merge(number, channels, forms)
        return forms

    def _add_merge(self, number: int, channels: Positions, forms: Mapping[int, _Form]) -> None:
        merge = self._ties.merges[number]
        if self._ties.root(merge.whole) in self._whole:
            return
        inner = self._strands[self._at(merge.whole, np.arange(len(merge.coordinates[0])))]
        sides = []
        for axis, at in zip(merge.axes, merge.coordinates, strict=True):
            root = self._ties.root(axis)
            strands = self._strands[self._at(axis, at)] if root not in self._whole else np.full(len(at), -1)
            held = self._fixed(self._pinned, axis, at)
            sides.append((strands.tolist(), held.tolist(), at.tolist()))
        for i, strand in enumerate(inner.tolist()):
            if not self._pinned[strand]:
                form = forms[int(channels[strand])]
                outer = [("at", at[i]) if held[i] else ("of", form.local[s[i]]) for s, held, at in sides]
                form.marks.append((number, form.local[strand], *outer))


class _Form:
    """How one channel runs through the graph: equal `marks` mean that two channels are used alike."""

    def __init__(self) -> None:
        self.marks: list[tuple[object, ...]] = []
        self.places = defaultdict[int, list[int]](list)
        self.local: dict[int, int] = {}

    def add(self, root: int, position: int, strand: int, mark: tuple[int, ...]) -> None:
        """The channel has `position` in the axis `root`, as one of its strands."""
        self.places[root].append(position)
        self.marks.append((root, self.local.setdefault(strand, len(self.local)), mark))


def components(count: int, edges: Iterable[tuple[Positions, Positions]]) -> Positions:
    """For each of `count` things the least of those it is connected with by `edges`: int64 [count].

    >>> components(5, [(np.array([4, 1]), np.array([1, 3]))]).tolist()
    [0, 1, 2, 1, 1]
    """
    labels = np.arange(count)
    pairs = list(edges)
    if not pairs:
        return labels
    one = np.concatenate([first for first, _ in pairs])
    two = np.concatenate([second for _, second in pairs])
    while True:
        least = np.minimum(labels[one], labels[two])
        before = labels.copy()
        for ends in (one, two):
            np.minimum.at(labels, before[ends], least)
            np.minimum.at(labels, ends, least)
        labels = labels[labels]
        if np.array_equal(labels, before):
            return labels
