"""Elementwise functions whose result is of bytes: several vectors are computed, then packed into one.

Operands lie as the result does, or hold one value for each element of the innermost run (a channel of a
pixel, a column of a row), or one value altogether. They are computed in float32 in registers; what is in
memory stays bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, int32
from .byte_lookup import look_up
from .integer_epilogue import Requantize, evaluate_shared
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .narrowing import narrow, store_elements
from .tensor import Tensor

__all__ = ["LEAST", "ByteElementwise", "ByteMap", "lies_alike"]

LEAST = 4  # bytes of a run
_VECTORS = 4  # that are packed into one


def lies_alike(tensor: Tensor, out: Tensor) -> bool:
    """Whether equal offsets are equal elements."""
    return tensor.shape == out.shape and tensor.strides == out.strides


@dataclass(eq=False)
class ByteElementwise(Kernel):
    """`out` = round(`tree`), in `runs` of `run` bytes (at least `LEAST`) for each of `images`.

    A leaf of `out`'s shape and strides lies as it does; another leaf has a value for each byte of a run,
    and that for each image if its first extent is `images`.
    """

    tree: Lazy
    requantize: Requantize
    out: Tensor
    images: int
    runs: int
    run: int
    family = "elementwise"

    def reads(self) -> Sequence[Tensor]:
        return leaves(self.tree)

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        own = (self.requantize, self.images, self.runs, self.run, Leaf(self.out).key)
        return ("byte-elementwise", *own, self.tree.key, sharing(self.reads(), self.tree))

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        whole = _VECTORS * b.isa.lanes
        full, scope = self.run // whole, Scope(b, pointers)
        with b.each(self.images) as n:
            if self.runs == 1:
                if full:
                    with b.split(full) as i:
                        self._vectors(scope, n, int32(0), b.let(i * whole), whole)
                with b.when(b.thread == 0):
                    self._rest(scope, n, int32(0), full * whole)
            else:
                with b.split(self.runs) as run:
                    at = b.let(run * self.run, "run")
                    if full:
                        with b.each(full) as i:
                            self._vectors(scope, n, at, b.let(i * whole), whole)
                    self._rest(scope, n, at, full * whole)

    def _rest(self, scope: Scope, n: Any, at: Any, first: int) -> None:
        """What is left of a run, in ever smaller pieces; the last one ends with the run."""
        piece = _VECTORS * scope.isa.lanes
        while first < self.run:
            if self.run - first >= piece:
                self._vectors(scope, n, at, int32(first), piece)
                first += piece
            elif piece > LEAST:
                piece //= 2
            else:
                first = self.run - LEAST

    def _vectors(self, scope: Scope, n: Any, at: Any, first: Any, count: int) -> None:
        """`count` bytes of the run at `at`, from `first` on."""
        b, q = scope.builder, self.requantize
        lanes = min(count, b.isa.lanes)
        start = b.let(n * (self.runs * self.run) + at + first, "at")
        integers = []
        for v in range(0, count, lanes):

            def operand(leaf: Leaf, v: int = v) -> Any:
                tensor = leaf.tensor
                if tensor.size == 1:
                    value = scope.load(tensor, int32(0))
                    return value if lanes == 1 else tir.Broadcast(value, lanes)
                if lies_alike(tensor, self.out):
                    return scope.load(tensor, start + v, lanes)
                image = n * tensor.strides[0] if self.images > 1 and tensor.shape[0] == self.images else 0
                return scope.load(tensor, image + first + v, lanes)

            value = evaluate_shared(self.tree, scope, {}, None, operand)
            integers.append(b.hold(q.integers(b, b.hold(value), lanes)))
        self._store(scope, integers, start)

    def _store(self, scope: Scope, integers: list[Any], start: Any) -> None:
        b, q, target = scope.builder, self.requantize, scope.pointers[id(self.out)]
        done = 0
        for many, value in narrow(b, integers, q.dtype, q.low, q.high):
            store_elements(b, target, start + done, value, many)
            done += many


@dataclass(eq=False)
class ByteMap(Kernel):
    """`out[i] = table[source[i]]` for `count` bytes that follow one another, unused ones included."""

    source: Tensor
    table: Tensor
    out: Tensor
    count: int
    family = "byte-lookup"

    def reads(self) -> Sequence[Tensor]:
        return (self.source, self.table)

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("byte-map", self.count, self.source.dtype, self.out.dtype)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        whole = 4 * b.isa.lanes
        full = self.count // whole
        if full:
            with b.split(full) as i:
                self._look(b, pointers, b.let(i * whole), whole)
        done, piece = full * whole, whole
        with b.when(b.thread == 0):
            while done < self.count:
                if self.count - done >= piece:
                    self._look(b, pointers, int32(done), piece)
                    done += piece
                else:
                    piece //= 2

    def _look(self, b: Builder, pointers: dict[int, Pointer], at: Any, count: int) -> None:
        codes = pointers[id(self.source)].load(at, count)
        found = look_up(b, pointers[id(self.table)], codes)
        b.store(pointers[id(self.out)], at, tir.reinterpret(f"{self.out.dtype}x{count}", found))
