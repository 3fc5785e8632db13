"""Any lazy value written to memory: the fused elementwise and data movement kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from ..dims import Size, is_fixed
from .builder import VECTORIZED, Builder, Pointer, int32
from .element_types import to_memory
from .kernel import Kernel
from .lazy import Lazy, Leaf, Moved, Scope, leaves, sharing
from .merging import merge_axes, unmerge
from .pixel_layout import IMAGE_TYPES, channels_last
from .tensor import Tensor

__all__ = ["Elementwise"]


@dataclass(eq=False)
class Elementwise(Kernel):
    """`out[i] = value[i]` for every index, the innermost axis in vectors: channels, where they lie so."""

    value: Lazy
    out: Tensor
    family = "elementwise"

    def reads(self) -> Sequence[Tensor]:
        return leaves(self.value)

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("elementwise", self.value.key, Leaf(self.out).key, sharing(self.reads(), self.value))

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        scope = Scope(b, pointers)
        shape = self.out.shape
        order = (0, 2, 3, 1) if channels_last(self.out) else None
        groups = merge_axes(b, [self.value, Leaf(self.out)], shape, order=order)
        extents = [prod(shape[a] for a in g) for g in groups]
        target = pointers[id(self.out)]

        def write(position: list[Any]) -> None:
            index = unmerge(groups, shape, position)
            value = to_memory(b, self.value.at(scope, index), self.out.dtype)
            b.store(target, b.simplify(Leaf(self.out).offset(index)), value)

        octets = channels_last(self.out) and _is_of_bytes(self.value)
        loop_nest(b, extents, write, 4 * b.isa.lanes if octets else b.isa.lanes)


def _is_of_bytes(value: Lazy) -> bool:
    """Whether bytes are moved and nothing is computed, so that a vector holds four times as many."""
    if isinstance(value, Moved):
        return value.dtype in IMAGE_TYPES and not value.conditional and _is_of_bytes(value.sources[0])
    return isinstance(value, Leaf) and value.dtype in IMAGE_TYPES


def loop_nest(b: Builder, extents: Sequence[Size], body: Any, lanes: int) -> None:
    """Loops over `extents`: the first shared out among threads, the last in vectors."""
    if not extents:
        with b.when(b.thread == 0):
            body([])
        return
    *outer, inner = extents
    if not outer:
        _flat(b, inner, body, lanes)
        return
    with b.split(outer[0]) as first:
        _inner_loops(b, [first], outer[1:], inner, body, lanes)


def _inner_loops(
    b: Builder, position: list[Any], outer: Sequence[Size], inner: Size, body: Any, lanes: int
) -> None:
    if outer:
        with b.loop(outer[0]) as i:
            _inner_loops(b, [*position, i], outer[1:], inner, body, lanes)
        return
    vectors(b, inner, lambda i: body([*position, i]), lanes)


def vectors(b: Builder, extent: Size, body: Any, lanes: int = 0) -> None:
    """`body(i)` for i below `extent`, in whole vectors (of `lanes`, float32's if 0) and one shorter one.

    Where the extent is known only at run time, what is left is done one by one.
    """
    lanes = lanes or b.isa.lanes
    full, tail = divmod(extent, lanes)
    if full != 0:
        with b.loop(full) as v, b.loop(lanes, kind=VECTORIZED) as lane:
            body(v * lanes + lane)
    _tail(b, full * lanes, tail, body)


def _tail(b: Builder, start: Size, count: Size, body: Any) -> None:
    if not is_fixed(start, count):
        with b.loop(count, start) as i:
            body(i)
    elif count == 1:
        body(int32(start))
    elif count:
        with b.loop(count, kind=VECTORIZED) as lane:
            body(lane + start)


def _flat(b: Builder, extent: Size, body: Any, lanes: int) -> None:
    full, tail = divmod(extent, lanes)
    if full != 0:
        with b.split(full) as v, b.loop(lanes, kind=VECTORIZED) as lane:
            body([v * lanes + lane])
    if tail != 0:
        with b.when(b.thread == 0):
            _tail(b, full * lanes, tail, lambda i: body([i]))
