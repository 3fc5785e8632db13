"""Layer normalisation in one kernel: three passes over a row that stays in the cache.

    y = (x - mean) / √(mean of (x - mean)² + ε) · scale + bias

Row-major, vectors lie along a row and a few rows go on at once; feature-major, every lane is a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from ..dims import is_fixed, may_turn
from .any_rows import rest_tiles
from .builder import Builder, Pointer, constant, int32
from .kernel import Kernel
from .lazy import Leaf
from .reduction import OPERATIONS, fold_lanes
from .tensor import Tensor

__all__ = ["LayerNorm"]

_AT_ONCE = 4  # rows or vectors of rows, whose sums do not wait for one another


@dataclass(eq=False)
class LayerNorm(Kernel):
    """`source`, `out`: (rows, n), both row-major or both with rows side by side in padded planes.

    `scale` and `bias`: (n,) or None.
    """

    source: Tensor
    scale: Tensor | None
    bias: Tensor | None
    out: Tensor
    epsilon: float
    family = "layer-norm"

    def reads(self) -> Sequence[Tensor]:
        own = [self.source, *(t for t in (self.scale, self.bias) if t is not None)]
        return list({id(t): t for t in own}.values())

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        given = (self.scale is not None, self.bias is not None, self.scale is self.bias)
        return ("layer-norm", self.epsilon, given, Leaf(self.source).key, Leaf(self.out).key)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        rows, lanes = self.source.shape[0], b.isa.lanes
        planes = self.source.strides[1] != 1
        work = _Work(self, b, pointers)
        count = -(-rows // lanes) if planes else rows
        full, tail = divmod(count, _AT_ONCE)
        handle = work.vectors_of_rows if planes else work.rows
        if may_turn(full):
            with b.split(full) as group:
                handle(b.let(group * _AT_ONCE), _AT_ONCE)
        if not is_fixed(tail):
            with b.when(b.thread == 0):
                for first, rows in rest_tiles(b, int32(full * _AT_ONCE), int32(tail), _AT_ONCE):
                    handle(first, rows)
        elif tail:
            with b.when(b.thread == 0):
                handle(int32(full * _AT_ONCE), tail)


@dataclass
class _Work:
    kernel: LayerNorm
    b: Builder
    pointers: dict[int, Pointer]

    def __post_init__(self) -> None:
        k = self.kernel
        self.source, self.out = self.pointers[id(k.source)], self.pointers[id(k.out)]
        self.length = k.source.shape[1]

    def _parameter(self, tensor: Tensor | None, at: Any, lanes: int) -> Any:
        return None if tensor is None else self.pointers[id(tensor)].load(at, lanes)

    def _inverse(self, total: Any) -> Any:
        """1 / √(variance + ε) from the sum of squares."""
        lanes = 1 if str(total.ty.dtype) == "float32" else self.b.isa.lanes
        mean = total * constant(1.0 / self.length, "float32", lanes)
        shifted = mean + constant(self.kernel.epsilon, "float32", lanes)
        return self.b.hold(constant(1.0, "float32", lanes) / tir.sqrt(shifted))

    def _scaled(self, value: Any, scale: Any, bias: Any) -> Any:
        value = value if scale is None else value * scale
        return value if bias is None else value + bias

    # ---- row-major --------------------------------------------------------------------------
    def rows(self, first: Any, count: int) -> None:
        """`count` rows from `first`."""
        b, k = self.b, self.kernel
        starts = [b.let((first + r) * k.source.strides[0]) for r in range(count)]
        targets = [b.let((first + r) * k.out.strides[0]) for r in range(count)]
        means = [
            b.hold(total * constant(1.0 / self.length, "float32"))
            for total in self._row_sums(starts, lambda x, r: x)
        ]

        def squared(x: Any, r: int) -> Any:
            centred = b.hold(x - _spread(means[r], x))
            return centred * centred

        scales = [self._inverse(total) for total in self._row_sums(starts, squared)]

        def write(i: Any, lanes: int) -> None:
            scale, bias = (self._parameter(t, i, lanes) for t in (k.scale, k.bias))
            scale, bias = (v if v is None else b.hold(v) for v in (scale, bias))
            for r in range(count):
                x = self.source.load(starts[r] + i, lanes)
                normal = (x - _spread(means[r], x)) * _spread(scales[r], x)
                b.store(self.out, targets[r] + i, self._scaled(normal, scale, bias))

        self._along(write)

    def _along(self, body: Callable[[Any, int], None]) -> None:
        """`body(first element, lanes)` over a row: whole vectors, then one by one."""
        b, lanes = self.b, self.b.isa.lanes
        full, tail = divmod(self.length, lanes)
        if full:
            with b.loop(full) as v:
                body(b.let(v * lanes), lanes)
        if tail:
            with b.loop(tail, full * lanes) as i:
                body(i, 1)

    def _row_sums(self, starts: list[Any], term: Callable[[Any, int], Any]) -> list[Any]:
        b, lanes = self.b, self.b.isa.lanes
        sums = [b.stack("float32", lanes) for _ in starts]
        single = [b.stack("float32", 1) for _ in starts]
        for r in range(len(starts)):
            b.store(sums[r], 0, constant(0.0, "float32", lanes))
            b.store(single[r], 0, constant(0.0, "float32"))

        def add(i: Any, width: int) -> None:
            for r, start in enumerate(starts):
                total = sums[r] if width > 1 else single[r]
                x = self.source.load(start + i, width)
                b.store(total, 0, total.load(0, width) + term(x, r))

        self._along(add)
        return [
            b.hold(fold_lanes(b, OPERATIONS["sum"], total, lanes) + rest.load(0))
            for total, rest in zip(sums, single, strict=True)
        ]

    # ---- feature-major ----------------------------------------------------------------------
    def vectors_of_rows(self, first: Any, count: int) -> None:
        """`count` vectors of rows from vector `first`."""
        b, k, lanes = self.b, self.kernel, self.b.isa.lanes
        starts = [b.let((first + j) * lanes) for j in range(count)]
        length = constant(1.0 / self.length, "float32", lanes)
        means = [b.hold(total * length) for total in self._lane_sums(starts, lambda x, j: x)]

        def squared(x: Any, j: int) -> Any:
            centred = b.hold(x - means[j])
            return centred * centred

        scales = [self._inverse(total) for total in self._lane_sums(starts, squared)]
        with b.loop(self.length) as i:
            scale, bias = (self._parameter(t, i, 1) for t in (k.scale, k.bias))
            scale, bias = (v if v is None else tir.Broadcast(b.let(v), lanes) for v in (scale, bias))
            for j, start in enumerate(starts):
                x = self.source.load(i * k.source.strides[1] + start, lanes)
                result = self._scaled((x - means[j]) * scales[j], scale, bias)
                b.store(self.out, i * k.out.strides[1] + start, result)

    def _lane_sums(self, starts: list[Any], term: Callable[[Any, int], Any]) -> list[Any]:
        b, lanes = self.b, self.b.isa.lanes
        sums = [b.stack("float32", lanes) for _ in starts]
        for total in sums:
            b.store(total, 0, constant(0.0, "float32", lanes))
        with b.loop(self.length) as i:
            for j, start in enumerate(starts):
                x = self.source.load(i * self.kernel.source.strides[1] + start, lanes)
                b.store(sums[j], 0, sums[j].load(0, lanes) + term(x, j))
        return [total.load(0, lanes) for total in sums]


def _spread(value: Any, like: Any) -> Any:
    """A scalar over the lanes of `like`."""
    parts = str(like.ty.dtype).split("x")
    return value if len(parts) == 1 else tir.Broadcast(value, int(parts[1]))
