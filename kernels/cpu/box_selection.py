"""Boxes that stay when of two that overlap the one with the lower score goes (non-maximum suppression)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .tensor import Tensor

__all__ = ["BoxSelection"]


@dataclass(eq=False)
class BoxSelection(Kernel):
    """(batch, class, box) of what is kept, best first for each class, to int64 `out`; how many to `count`.

    `boxes` (B, N, 4) are two corners, or `centred`: centre x and y, width, height. `scores` (B, C, N). Every
    choice takes one pass over the boxes. `alive` (N,) of uint8 is scratch; one thread keeps the order.
    """

    boxes: Lazy
    scores: Lazy
    limits: tuple[Lazy, Lazy, Lazy | None]  # boxes for each class, overlap, least score
    centred: bool
    alive: Tensor
    out: Tensor
    count: Tensor
    family = "box selection"

    @property
    def _values(self) -> list[Lazy]:
        return [self.boxes, self.scores, *(v for v in self.limits if v is not None)]

    def reads(self) -> Sequence[Tensor]:
        return leaves(*self._values)

    def writes(self) -> Sequence[Tensor]:
        return (self.out, self.count, self.alive)

    @property
    def key(self) -> tuple[Any, ...]:
        values = self._values
        shapes = (self.boxes.shape, self.scores.shape, self.limits[2] is None)
        keys = tuple(value.key for value in values)
        return ("boxes", self.centred, shapes, keys, sharing(self.reads(), *values), Leaf(self.out).key)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        scope = Scope(b, pointers)
        batches, classes = self.scores.shape[:2]
        with b.when(tir.EQ(b.thread, int32(0))):
            found, best, more = b.stack("int32", 1), b.stack("int32", 1), b.stack("int32", 1)
            b.store(found, 0, int32(0))
            most = b.let(self._most(scope))
            with b.loop(batches) as batch, b.loop(classes) as kind:
                self._revive(scope, batch, kind)
                b.store(more, 0, int32(1))
                with b.loop(most), b.when(tir.EQ(more.load(0), int32(1))):
                    self._find(scope, batch, kind, best)
                    b.store(more, 0, tir.Select(best.load(0) >= 0, int32(1), int32(0)))
                    with b.when(best.load(0) >= 0):
                        for column, value in enumerate((batch, kind, best.load(0))):
                            place = found.load(0) * 3 + column
                            b.store(pointers[id(self.out)], place, tir.Cast("int64", int32(value)))
                        b.store(found, 0, found.load(0) + 1)
                        self._suppress(scope, batch, best)
            b.store(pointers[id(self.count)], 0, tir.Cast("int64", found.load(0)))

    def _most(self, scope: Scope) -> Any:
        """Boxes for each class, at most all."""
        boxes = tir.Cast("int64", int32(self.scores.shape[2]) + int32(0))
        given = _first(scope, self.limits[0])
        return tir.Cast("int32", tir.min(tir.max(given, constant(0, "int64")), boxes))

    def _revive(self, scope: Scope, batch: Any, kind: Any) -> None:
        """Marks the boxes whose score is above the least."""
        b = scope.builder
        with b.loop(self.scores.shape[2]) as i:
            score = self.scores.at(scope, [batch, kind, i])
            kept = tir.EQ(score, score)
            if self.limits[2] is not None:
                kept = score > _first(scope, self.limits[2])
            b.store(
                scope.pointers[id(self.alive)],
                i,
                tir.Select(kept, constant(1, "uint8"), constant(0, "uint8")),
            )

    def _find(self, scope: Scope, batch: Any, kind: Any, best: Pointer) -> None:
        """The first of the best boxes that are alive; -1 without one."""
        b = scope.builder
        top = b.stack("float32", 1)
        b.store(best, 0, int32(-1))
        b.store(top, 0, constant(0.0, "float32"))
        with b.loop(self.scores.shape[2]) as i:
            alive = tir.NE(scope.pointers[id(self.alive)].load(i), constant(0, "uint8"))
            score = self.scores.at(scope, [batch, kind, i])
            with b.when(tir.And(alive, tir.Or(best.load(0) < 0, score > top.load(0)))):
                b.store(best, 0, i)
                b.store(top, 0, score)

    def _suppress(self, scope: Scope, batch: Any, best: Pointer) -> None:
        """The chosen box and those that overlap it too much are alive no longer."""
        b = scope.builder
        chosen = self._corners(scope, batch, best.load(0))
        with b.loop(self.scores.shape[2]) as i:
            other = self._corners(scope, batch, i)
            zero = constant(0.0, "float32")
            sides = [
                b.hold(tir.max(tir.min(chosen[a + 2], other[a + 2]) - tir.max(chosen[a], other[a]), zero))
                for a in range(2)
            ]
            common = b.hold(sides[0] * sides[1])
            areas = [b.hold((box[2] - box[0]) * (box[3] - box[1])) for box in (chosen, other)]
            union = b.hold(areas[0] + areas[1] - common)
            real = tir.And(tir.And(areas[0] > zero, areas[1] > zero), common > zero)
            overlaps = tir.And(real, common / union > _first(scope, self.limits[1]))
            with b.when(tir.Or(overlaps, tir.EQ(i, best.load(0)))):
                b.store(scope.pointers[id(self.alive)], i, constant(0, "uint8"))

    def _corners(self, scope: Scope, batch: Any, box: Any) -> list[Any]:
        """Least and largest coordinates of both axes: (y0, x0, y1, x1)."""
        b = scope.builder
        v = [b.hold(self.boxes.at(scope, [batch, box, int32(k)])) for k in range(4)]
        if self.centred:
            half = constant(0.5, "float32")
            ends = [v[1] - v[3] * half, v[0] - v[2] * half, v[1] + v[3] * half, v[0] + v[2] * half]
            return [b.hold(end) for end in ends]
        pairs = [(v[0], v[2]), (v[1], v[3])]
        low = [b.hold(tir.min(p, q)) for p, q in pairs]
        return [*low, *(b.hold(tir.max(p, q)) for p, q in pairs)]


def _first(scope: Scope, value: Lazy) -> Any:
    return value.at(scope, [int32(0)] * len(value.shape))
