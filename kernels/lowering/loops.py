"""Loops: values carried from turn to turn, and results collected over all turns.

A carried value has a buffer of its own. A turn reads it, and writes it when all that the turn gives is
computed. Slices that a turn reads or writes are views whose place depends on the number of the turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import onnx_ir as ir

from gossamer.runtime.errors import ModelError, UnsupportedError

from ..cpu.lazy import Elementwise, Fill, Lazy, Leaf, leaves
from ..cpu.pixel_layout import IMAGE_TYPES
from ..cpu.size_value import SizeValue
from ..cpu.tensor import Tensor, contiguous
from ..dims import Dim, Size, symbol, upper_bound
from .attributes import describe
from .scopes import nested, store_captured
from .state import Lowering
from .tree import Repeat

__all__ = ["Collected", "Loop", "taken"]

_NUMBERS = count()
_MOST = 2**31 - 2  # turns


@dataclass(frozen=True)
class Collected:
    """Where a result of every turn goes: along `axis`, the first turn's last if `backward`."""

    axis: int = 0
    backward: bool = False


@dataclass(frozen=True)
class _Room:
    """For `size` turns, which the loop writes to `turns` where it varies; more than `most` fail."""

    size: Size = 0
    turns: Tensor | None = None
    most: int | None = None
    failure: str = ""


@dataclass
class Loop:
    """A loop under construction: at most `most` turns (None: any number) of `body`, the graph of `node`."""

    state: Lowering
    node: ir.Node
    body: ir.Graph
    most: Size | Tensor | None
    name: str = field(default_factory=lambda: f"turn:{next(_NUMBERS)}")

    @property
    def turn(self) -> Size:
        """The number of turns so far."""
        most = None if isinstance(self.most, Tensor) or self.most is None else upper_bound(self.most)
        return symbol(self.name, 0, _MOST if most is None else max(0, most - 1))

    def number(self, shape: tuple[int, ...]) -> Lazy:
        """The number of turns so far, as a value of `shape`, which has one element."""
        turn = self.turn
        return SizeValue(turn, "int64", shape) if isinstance(turn, Dim) else Fill(turn, "int64", shape)

    def run(
        self,
        carried: Mapping[ir.Value, Lazy],
        known: Mapping[ir.Value, Lazy],
        collected: Sequence[Collected],
        start: Lazy | None = None,
    ) -> tuple[list[Lazy], list[Lazy]]:
        """Appends the loop; what carried values are in the end, and what was collected.

        `carried` gives initial values of inputs of the body, `known` what others are. With `start`, the
        condition before the first turn, the body's first output is the condition of the next.
        """
        state = self.state
        store_captured(state, self.body)
        buffers = [self._buffer(value, initial) for value, initial in carried.items()]
        flag: Tensor | None = None
        with nested(state) as steps:
            state.values.update(known)
            state.values.update(zip(carried, map(Leaf, buffers), strict=True))
            results = self._body()
            if start is not None and not _is_true(condition := results.pop(0)):
                flag = state.new_tensor("condition", "bool", ())
                state.compute(_scalar(condition, self.node), flag)
            given = results[len(buffers) :]
            room = self._room(flag) if given else _Room()
            stacks = [self._collect(result, to, room) for result, to in zip(given, collected, strict=True)]
            self._carry(results[: len(buffers)], buffers)
        if flag is not None and start is not None:
            state.compute(_scalar(start, self.node), flag)
        state.steps.append(Repeat(steps, self.name, self.most, flag, room.turns, room.most, room.failure))
        return [Leaf(buffer) for buffer in buffers], [Leaf(stack) for stack in stacks]

    def _buffer(self, value: ir.Value, initial: Lazy) -> Tensor:
        buffer = self.state.new_tensor(value.name or "carried", initial.dtype, initial.shape)
        self.state.compute(initial, buffer)
        return buffer

    def _body(self) -> list[Lazy]:
        from .lower import lower_nodes  # which finds rules, and by them this module

        lower_nodes(self.state, self.body)
        return [self.state.lazy(value) for value in self.body.outputs]

    def _room(self, flag: Tensor | None) -> _Room:
        """How many turns memory is needed for."""
        if not isinstance(self.most, Tensor) and self.most is not None:
            if flag is None:
                return _Room(self.most)
            size, turns = self.state.sizes.measure(f"{self.node.name}_turns", self.most)
            return _Room(size, turns)
        for value in self._stacked_values():
            declared = value.shape[0] if value.shape is not None and len(value.shape) else None
            if isinstance(declared, int):
                return self._declared(declared)
        raise UnsupportedError(
            "how many results a loop collects is known only at run time",
            where=describe(self.node),
            expected="a bound of the number of turns, or an output whose shape is declared",
            advice="give the number of turns as a constant",
        )

    def _declared(self, most: int) -> _Room:
        """Nothing else bounds the number of turns: with more than the model declares a run fails."""
        sizes, name = self.state.sizes, self.node.name
        failure = f"{describe(self.node)} makes more turns than the {most} of its declared output"
        sizes.failures.append(failure)
        size, turns = sizes.measure(f"{name}_turns", most)
        return _Room(size, turns, most, failure)

    def _stacked_values(self) -> Sequence[ir.Value]:
        """Of a Loop, which alone may not know its number of turns."""
        return self.node.outputs[len(self.body.inputs) - 2 :]

    def _collect(self, result: Lazy, to: Collected, room: _Room) -> Tensor:
        axis = to.axis + len(result.shape) + 1 if to.axis < 0 else to.axis
        if not 0 <= axis <= len(result.shape):
            expected = f"{-len(result.shape) - 1}..{len(result.shape)}"
            raise ModelError(
                "there is no such axis", where=describe(self.node), expected=expected, got=to.axis
            )
        shape = (*result.shape[:axis], room.size, *result.shape[axis:])
        stack = self.state.new_tensor("collected", result.dtype, shape)
        place = room.size - 1 - self.turn if to.backward else self.turn
        self.state.compute(result, taken(stack, axis, place))
        return stack

    def _carry(self, results: Sequence[Lazy], buffers: Sequence[Tensor]) -> None:
        """Writes results where the next turn reads them."""
        for result, buffer in zip(results, buffers, strict=True):
            if (result.shape, result.dtype) != (buffer.shape, buffer.dtype):
                raise UnsupportedError(
                    "a value's shape changes from turn to turn",
                    where=describe(self.node),
                    expected=f"{buffer.name!r} as {buffer.dtype}{list(buffer.shape)}",
                    got=f"{result.dtype}{list(result.shape)}",
                )
        ready = [
            result if _in_place(result, buffer, buffers) else self._aside(result, buffers)
            for result, buffer in zip(results, buffers, strict=True)
        ]
        for result, buffer in zip(ready, buffers, strict=True):
            if not (isinstance(result, Leaf) and result.tensor is buffer):
                self.state.compute(result, buffer)

    def _aside(self, result: Lazy, buffers: Sequence[Tensor]) -> Lazy:
        tensor = self.state.tensor(result, "next")
        carried = any(tensor.root is buffer for buffer in buffers)
        return Leaf(self.state.copy(tensor) if carried else tensor)


def taken(value: Tensor, axis: int, position: Size) -> Tensor:
    """A slice of one index, without the axis."""
    shape = value.shape[:axis] + value.shape[axis + 1 :]
    strides = value.strides[:axis] + value.strides[axis + 1 :]
    return value.view(shape, strides, position * value.strides[axis])


def _is_true(value: Lazy) -> bool:
    return isinstance(value, Fill) and bool(value.value)


def _scalar(value: Lazy, node: ir.Node) -> Lazy:
    """A condition as a value without axes."""
    if any(size != 1 for size in value.shape):
        raise ModelError("a condition is not one value", where=describe(node), got=list(value.shape))
    if isinstance(value, Fill):
        return Fill(value.value, value.dtype)
    if isinstance(value, Leaf):
        return Leaf(value.tensor.view((), contiguous(())))
    return value


def _in_place(result: Lazy, own: Tensor, buffers: Sequence[Tensor]) -> bool:
    """Whether it may be written at once: it reads no other carried value, and its own at the same index."""
    reads = {id(tensor.root) for tensor in leaves(result)}
    if reads.isdisjoint(id(buffer) for buffer in buffers):
        return True
    return own.dtype not in IMAGE_TYPES and _at_same_index(result, own, buffers)


def _at_same_index(result: Lazy, own: Tensor, buffers: Sequence[Tensor]) -> bool:
    if isinstance(result, Elementwise):
        return all(_at_same_index(part, own, buffers) for part in result.args)
    if isinstance(result, Leaf):
        return result.tensor is own or all(result.tensor.root is not b for b in buffers)
    return isinstance(result, Fill)
