"""Scale and zero point of a tensor from its extremes, as DynamicQuantizeLinear defines them.

    low = min(0, min x)     high = max(0, max x)     scale = (high - low) / 255, 1 where that is 0
    zero point = round half to even(saturate(-low / scale))

The first kernel leaves extremes of a few parts, which threads share; the second makes the two numbers.
Source: https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import tirx as tir

from .arithmetic import maximum, minimum
from .builder import Builder, Pointer, constant, int32
from .kernel import Kernel
from .lazy import Leaf, Scope
from .merging import merge_axes, unmerge
from .reduction import fold_lanes
from .tensor import Tensor

__all__ = ["PARTS", "DynamicParameters", "Extremes"]

PARTS = 16  # shares for threads; as many as the widest vectors have lanes
_CHAINS = 4  # partial results side by side, which hide the latency of comparisons
_FOLDS = (minimum, maximum)


@dataclass(eq=False)
class Extremes(Kernel):
    """`out`: (2, PARTS) float32, least and largest value of each part of `source`, 0 included."""

    source: Tensor
    out: Tensor
    family = "dynamic-range"

    def reads(self) -> Sequence[Tensor]:
        return (self.source,)

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("extremes", Leaf(self.source).key)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        scope, shape = Scope(b, pointers), self.source.shape
        groups = merge_axes(b, [Leaf(self.source)], shape)
        *outer, inner = groups or [[]]
        length, rows = prod(shape[a] for a in inner), prod(shape[a] for g in outer for a in g)
        out = pointers[id(self.out)]
        with b.split(PARTS) as part:
            fold = _Fold(b, scope, self.source)
            if outer:
                first = b.let(tir.truncdiv(part * rows, int32(PARTS)), "first")
                last = b.let(tir.truncdiv((part + 1) * rows, int32(PARTS)), "last")
                with b.loop(b.let(last - first), first) as row:
                    index = unmerge([[a for g in outer for a in g]], shape, [row])
                    fold.run(b.let(b.simplify(Leaf(self.source).offset(index))), length)
            else:
                self._pieces(b, fold, part, length)
            for i, value in enumerate(fold.results()):
                b.store(out, part + i * PARTS, value)

    def _pieces(self, b: Builder, fold: _Fold, part: Any, length: int) -> None:
        """A tensor without gaps: equal pieces, and what is left over to the first part."""
        piece = length // PARTS
        fold.run(b.let(part * piece), piece)
        if length % PARTS:
            with b.when(tir.EQ(part, int32(0))):
                fold.run(int32(PARTS * piece), length % PARTS)


class _Fold:
    """Running extremes of a part."""

    def __init__(self, b: Builder, scope: Scope, source: Tensor) -> None:
        self.b, self.scope, self.source, self.lanes = b, scope, source, b.isa.lanes
        self.vectors = [[b.stack("float32", self.lanes) for _ in range(_CHAINS)] for _ in _FOLDS]
        self.single = [b.stack("float32", 1) for _ in _FOLDS]
        for arrays, single in zip(self.vectors, self.single, strict=True):
            b.store(single, 0, constant(0.0, "float32"))
            for array in arrays:
                b.store(array, 0, constant(0.0, "float32", self.lanes))

    def run(self, start: Any, count: int) -> None:
        """`count` neighbouring values from `start`."""
        b, lanes = self.b, self.lanes
        turns, rest = divmod(count // lanes, _CHAINS)
        if turns:
            with b.loop(turns) as turn:
                for chain in range(_CHAINS):
                    self._add(chain, start + (turn * _CHAINS + chain) * lanes)
        for chain in range(rest):
            self._add(chain, start + (turns * _CHAINS + chain) * lanes)
        done = count // lanes * lanes
        if count > done:
            with b.loop(count - done, done) as i:
                x = b.hold(self.scope.load(self.source, start + i))
                for fold, single in zip(_FOLDS, self.single, strict=True):
                    b.store(single, 0, fold(single.load(0), x))

    def _add(self, chain: int, at: Any) -> None:
        x = self.b.hold(self.scope.load(self.source, at, self.lanes))
        for fold, arrays in zip(_FOLDS, self.vectors, strict=True):
            self.b.store(arrays[chain], 0, fold(arrays[chain].load(0, self.lanes), x))

    def results(self) -> list[Any]:
        b = self.b
        found = []
        for fold, arrays, single in zip(_FOLDS, self.vectors, self.single, strict=True):
            total = arrays[0].load(0, self.lanes)
            for array in arrays[1:]:
                total = b.hold(fold(total, array.load(0, self.lanes)))
            b.store(arrays[0], 0, total)
            found.append(fold(fold_lanes(b, fold, arrays[0], self.lanes), single.load(0)))
        return found


@dataclass(eq=False)
class DynamicParameters(Kernel):
    """`scale` (one float32) and `zero_point` (one uint8) from the `extremes` (2, PARTS)."""

    extremes: Tensor
    scale: Tensor
    zero_point: Tensor
    family = "dynamic-range"

    def reads(self) -> Sequence[Tensor]:
        return (self.extremes,)

    def writes(self) -> Sequence[Tensor]:
        return (self.scale, self.zero_point)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("dynamic-parameters",)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        source = pointers[id(self.extremes)]
        with b.when(b.thread == 0):
            low, high = (self._folded(b, fold, source, i) for i, fold in enumerate(_FOLDS))
            zero, one = constant(0.0, "float32"), constant(1.0, "float32")
            spread = b.hold(high - low)
            scale = b.hold(tir.Select(tir.EQ(spread, zero), one, spread / constant(255.0, "float32")))
            place = minimum(maximum(b.hold((zero - low) / scale), zero), constant(255.0, "float32"))
            b.store(pointers[id(self.scale)], 0, scale)
            b.store(pointers[id(self.zero_point)], 0, tir.Cast("uint8", tir.nearbyint(b.hold(place))))

    def _folded(self, b: Builder, fold: Any, source: Pointer, which: int) -> Any:
        lanes = b.isa.lanes
        total = b.stack("float32", lanes)
        b.store(total, 0, source.load(which * PARTS, lanes))
        for start in range(lanes, PARTS, lanes):
            b.store(total, 0, fold(total.load(0, lanes), source.load(which * PARTS + start, lanes)))
        return b.hold(fold_lanes(b, fold, total, lanes))
