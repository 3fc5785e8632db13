"""Sum, maximum, minimum and product over axes of a lazy value, in vectors along the innermost axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from typing import Any

from ..dims import Size, is_fixed, may_turn
from .arithmetic import maximum, minimum
from .builder import VECTORIZED, Builder, Pointer, constant
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .merging import merge_axes, unmerge
from .tensor import Tensor, contiguous

__all__ = ["OPERATIONS", "Reduction", "fold_lanes", "identity"]

_CHAINS = 4  # partial results side by side, which hide the latency of additions
Combine = Callable[[Any, Any], Any]
OPERATIONS: dict[str, Combine] = {
    "sum": lambda a, b: a + b,
    "prod": lambda a, b: a * b,
    "max": maximum,
    "min": minimum,
}


def identity(operation: str, dtype: str) -> float | int:
    """The value that changes nothing."""
    if operation in ("sum", "prod"):
        return int(operation == "prod")
    if dtype.startswith("float"):
        return float("-inf") if operation == "max" else float("inf")
    bits = int("".join(c for c in dtype if c.isdigit()) or 8)
    low, high = (0, 2**bits - 1) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return low if operation == "max" else high


def fold_lanes(b: Builder, combine: Combine, array: Pointer, lanes: int) -> Any:
    """One scalar from the `lanes` values of a stack array."""
    values = [array.load(i) for i in range(lanes)]
    while len(values) > 1:
        half = len(values) // 2
        values = [
            b.hold(combine(x, y)) for x, y in zip(values[:half], values[half : 2 * half], strict=True)
        ] + (values[2 * half :])
    return values[0]


@dataclass(eq=False)
class Reduction(Kernel):
    """`out` has the kept axes of `value` (reduced ones with extent 1)."""

    value: Lazy
    axes: tuple[int, ...]
    operation: str
    out: Tensor
    family = "reduction"

    def reads(self) -> Sequence[Tensor]:
        return leaves(self.value)

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        return (
            *("reduction", self.operation, self.axes, self.value.key, Leaf(self.out).key),
            sharing(self.reads(), self.value),
        )

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        shape = self.value.shape
        kinds = [int(a in self.axes) for a in range(len(shape))]
        groups = merge_axes(b, [self.value], shape, kinds)
        kept = [g for g in groups if not kinds[g[0]]]
        reduced = [g for g in groups if kinds[g[0]]]
        state = _State(self, b, Scope(b, pointers), groups, pointers[id(self.out)])
        if groups and kinds[groups[-1][0]]:
            state.across_lanes(kept, reduced)
        else:
            state.in_lanes(kept, reduced)


@dataclass
class _State:
    kernel: Reduction
    b: Builder
    scope: Scope
    groups: list[list[int]]
    out: Pointer

    def extent(self, group: list[int]) -> Size:
        return prod(self.kernel.value.shape[a] for a in group)

    def element(self, places: dict[int, Any]) -> Any:
        """The value at one place, given by group (named by its first axis)."""
        positions = [places[g[0]] for g in self.groups]
        return self.kernel.value.at(self.scope, unmerge(self.groups, self.kernel.value.shape, positions))

    def target(self, places: dict[int, Any]) -> Any:
        shape, out = self.kernel.value.shape, self.kernel.out
        kept = [g for g in self.groups if g[0] in places]
        index = unmerge(kept, shape, [places[g[0]] for g in kept])
        strides = out.strides if len(out.shape) == len(shape) else contiguous(shape)
        total: Any = 0
        for axis, (i, s) in enumerate(zip(index, strides, strict=True)):
            total = total + i * s if axis not in self.kernel.axes else total
        return self.b.simplify(total)

    def _outer(self, stack: ExitStack, kept: list[list[int]]) -> dict[int, Any]:
        """Loops over kept groups, the first shared out among threads."""
        places: dict[int, Any] = {}
        for position, group in enumerate(kept):
            extent = self.extent(group)
            loop = self.b.split(extent) if position == 0 else self.b.loop(extent)
            places[group[0]] = stack.enter_context(loop)
        if not kept:
            stack.enter_context(self.b.when(self.b.thread == 0))
        return places

    def across_lanes(self, kept: list[list[int]], reduced: list[list[int]]) -> None:
        """The innermost axis is summed: lanes hold partial results."""
        with ExitStack() as stack:
            places = self._outer(stack, kept)
            result = self._folded(places, reduced)
            kept_places = {g[0]: places[g[0]] for g in kept}
            self.b.store(self.out, self.target(kept_places), result)

    def _folded(self, places: dict[int, Any], reduced: list[list[int]]) -> Any:
        b, k = self.b, self.kernel
        lanes, dtype = b.isa.lanes, k.value.dtype
        combine = OPERATIONS[k.operation]
        neutral = identity(k.operation, dtype)
        *others, inner = reduced
        full, tail = divmod(self.extent(inner), lanes)
        chains = max(1, min(_CHAINS, full)) if is_fixed(full) else _CHAINS
        partials = [b.stack(dtype, lanes) for _ in range(chains)]
        single = b.stack(dtype, 1)
        for partial in partials:
            b.store(partial, 0, constant(neutral, dtype, lanes))
        b.store(single, 0, constant(neutral, dtype))

        def add(partial: Pointer, vector: Any) -> None:
            with b.loop(lanes, kind=VECTORIZED) as lane:
                places[inner[0]] = vector * lanes + lane
                b.store(partial, lane, combine(partial.load(lane), self.element(places)))

        with ExitStack() as loops:
            for group in others:
                places[group[0]] = loops.enter_context(b.loop(self.extent(group)))
            self._in_vectors(full, partials, add)
            if may_turn(tail):
                with b.loop(tail, full * lanes) as i:
                    places[inner[0]] = i
                    b.store(single, 0, combine(single.load(0), self.element(places)))
        result = single.load(0)
        if may_turn(full):
            total = partials[0].load(0, lanes)
            for partial in partials[1:]:
                total = b.hold(combine(total, partial.load(0, lanes)))
            b.store(partials[0], 0, total)
            result = combine(result, fold_lanes(b, combine, partials[0], lanes))
        return result

    def _in_vectors(
        self, full: Size, partials: Sequence[Pointer], add: Callable[[Pointer, Any], None]
    ) -> None:
        """`add(partial, vector)` for `full` vectors, which take turns among the partial results."""
        b, chains = self.b, len(partials)
        if may_turn(full // chains):
            with b.loop(full // chains) as v:
                for chain, partial in enumerate(partials):
                    add(partial, b.let(v * chains + chain))  # one variable: indices of it are simplified
        if not is_fixed(full):
            with b.loop(full % chains, full - full % chains) as v:
                add(partials[0], v)
            return
        for v in range(full - full % chains, full):
            add(partials[v % chains], v)

    def in_lanes(self, kept: list[list[int]], reduced: list[list[int]]) -> None:
        """The innermost axis stays: every lane is its own result."""
        b = self.b
        if not kept:
            kept = [[]]
        *outer, inner = kept
        extent = self.extent(inner)
        lanes = b.isa.lanes
        with ExitStack() as stack:
            places = self._outer(stack, outer)
            full, tail = divmod(extent, lanes)
            if may_turn(full):
                with b.loop(full) as v:
                    self._lane_group(dict(places), inner, reduced, v * lanes, lanes)
            if not is_fixed(tail):
                with b.loop(tail, full * lanes) as i:
                    self._lane_group(dict(places), inner, reduced, i, 1)
            elif tail:
                self._lane_group(dict(places), inner, reduced, full * lanes, tail)

    def _lane_group(
        self, places: dict[int, Any], inner: list[int], reduced: list[list[int]], start: Any, lanes: int
    ) -> None:
        b, k = self.b, self.kernel
        combine, dtype = OPERATIONS[k.operation], k.value.dtype
        partial = b.stack(dtype, lanes)
        b.store(partial, 0, constant(identity(k.operation, dtype), dtype, lanes))
        with ExitStack() as loops:
            for group in reduced:
                places[group[0]] = loops.enter_context(b.loop(self.extent(group)))
            with b.loop(lanes, kind=VECTORIZED) as lane:
                if inner:
                    places[inner[0]] = lane + start
                b.store(partial, lane, combine(partial.load(lane), self.element(places)))
        kept_places = {g: p for g, p in places.items() if not any(g == r[0] for r in reduced)}
        with b.loop(lanes, kind=VECTORIZED) as lane:
            if inner:
                kept_places[inner[0]] = lane + start
            b.store(self.out, self.target(kept_places), partial.load(lane))
