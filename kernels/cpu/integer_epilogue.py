"""What an integer kernel does with its int32 sums: scale, epilogue tree, round, pack into bytes, store.

y = tree(sum · scale[m] + addend[m])            stored as float32, or
q = clamp(round half to even(y · inverse) + zero point)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .arithmetic import maximum, minimum
from .builder import Builder, Pointer, constant, int32, lanes_of
from .byte_lookup import look_up
from .epilogue import Accumulator
from .float_rounding import nearest_integers
from .lazy import Elementwise, Fill, Lazy, Leaf, Scope, leaves, sharing
from .narrowing import narrow, store_elements
from .tensor import Tensor

__all__ = ["Finish", "Requantize", "Spot", "evaluate_shared"]


@dataclass(frozen=True)
class Requantize:
    """From float32 to `dtype`; `bounded` says that |y · inverse| stays below 2²², which rounding needs.

    `low` and `high` are the smallest and largest integers that may come out, the zero point included.
    """

    inverse: float
    zero_point: int
    low: int
    high: int
    dtype: str
    bounded: bool = False

    def integers(self, b: Builder, value: Any, lanes: int) -> Any:
        """int32 of one vector of float32, not yet clamped where `bounded`."""
        if self.inverse != 1.0:
            value = b.hold(value * constant(self.inverse, "float32", lanes))
        if not self.bounded:
            low, high = (float(n - self.zero_point) for n in (self.low, self.high))
            value = maximum(b.hold(value), constant(low, "float32", lanes))
            value = minimum(b.hold(value), constant(high, "float32", lanes))
        integers = nearest_integers(b, b.hold(value))
        return integers + constant(self.zero_point, "int32", lanes) if self.zero_point else integers


@dataclass(frozen=True)
class Spot:
    """Where a vector of sums belongs: `place` in packed rows, `channel` of the result, `at` in its memory."""

    place: Any
    channel: Any
    at: Any

    def next(self, elements: int) -> Spot:
        """The vector that starts `elements` further."""
        return Spot(self.place + elements, self.channel + elements, self.at + elements)


@dataclass(frozen=True, eq=False)
class Finish:
    """`scale` and `addend` are packed rows (float32, whole vectors for each group) of one value per output.

    `tree` computes the result from an Accumulator. Its leaves are single values, one per channel, or tensors
    that lie as the result does. With a `table` (`byte_lookup.py`) the bytes are looked up before they are
    stored, and `dtype` is that of the result.
    """

    scale: Tensor
    addend: Tensor | None
    tree: Lazy
    requantize: Requantize | None
    table: Tensor | None = None
    dtype: str = ""

    @property
    def tensors(self) -> list[Tensor]:
        """What is read."""
        own = [self.scale] + ([self.addend] if self.addend is not None else [])
        own += [self.table] if self.table is not None else []
        return [*own, *leaves(self.tree)]

    def key(self, tensors: Sequence[Tensor]) -> tuple[Any, ...]:
        """All that the code depends on, where `tensors` are the kernel's."""
        own = (self.addend is not None, self.requantize, self.table is not None, self.dtype)
        return (*own, self.tree.key, sharing(tensors, self.tree))

    def store(
        self,
        b: Builder,
        pointers: dict[int, Pointer],
        sums: Sequence[Any],
        spot: Spot,
        out: Tensor,
        keep: int,
    ) -> None:
        """Stores the results of some vectors of sums, which are neighbours, or only the first `keep`."""
        lanes = lanes_of(sums[0])
        vectors = [self.value(b, pointers, s, spot.next(i * lanes), out) for i, s in enumerate(sums)]
        target = pointers[id(out)]
        if self.requantize is None:
            for i, value in enumerate(vectors):
                store_elements(b, target, spot.at + i * lanes, value, min(lanes, keep - i * lanes))
            return
        q = self.requantize
        integers = [b.hold(q.integers(b, v, lanes)) for v in vectors]
        first = 0
        for many, value in narrow(b, integers, q.dtype, q.low, q.high):
            value = self.looked_up(b, pointers, value)
            store_elements(b, target, spot.at + first, value, min(many, keep - first))
            first += many

    def looked_up(self, b: Builder, pointers: dict[int, Pointer], value: Any) -> Any:
        """A vector of rounded bytes as it is stored."""
        if self.table is None:
            return value
        found = look_up(b, pointers[id(self.table)], value)
        return tir.reinterpret(f"{self.dtype}x{lanes_of(found)}", found)

    def value(self, b: Builder, pointers: dict[int, Pointer], sums: Any, spot: Spot, out: Tensor) -> Any:
        """The tree's value for one vector of sums, before the last rounding."""
        lanes, scope = lanes_of(sums), Scope(b, pointers)
        scale = pointers[id(self.scale)].load(spot.place, lanes)
        value = tir.Cast(f"float32x{lanes}", sums)
        if self.addend is None:
            value = value * scale
        else:
            value = b.isa.multiply_add(value, scale, pointers[id(self.addend)].load(spot.place, lanes))
        if isinstance(self.tree, Accumulator):
            return value
        return evaluate_shared(
            self.tree, scope, {}, b.hold(value), lambda leaf: _operand(scope, leaf, spot, out, lanes)
        )


def evaluate_shared(
    tree: Lazy, scope: Scope, known: dict[int, Any], value: Any, operand: Callable[[Leaf], Any]
) -> Any:
    """The tree's value for one vector, with every shared part computed once; `value` is the Accumulator."""
    if isinstance(tree, Accumulator):
        return value
    if isinstance(tree, Fill):
        return tree.at(scope, [])
    if id(tree) not in known:
        if isinstance(tree, Leaf):
            found = operand(tree)
        else:
            assert isinstance(tree, Elementwise), tree
            found = tree.apply(scope, [evaluate_shared(a, scope, known, value, operand) for a in tree.args])
        known[id(tree)] = scope.builder.hold(found)
    return known[id(tree)]


def _operand(scope: Scope, leaf: Leaf, spot: Spot, out: Tensor, lanes: int) -> Any:
    tensor = leaf.tensor
    if tensor.size == 1:
        return tir.Broadcast(scope.load(tensor, int32(0)), lanes)
    whole = tensor.shape == out.shape and tensor.strides == out.strides
    return scope.load(tensor, spot.at if whole else spot.channel, lanes)
