"""GridSample: values of an image between its elements, at places that a grid names.

Definition: https://onnx.ai/onnx/operators/onnx__GridSample.html
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import onnx_ir as ir
from tvm import tirx as tir

from gossamer.runtime.errors import UnsupportedError

from ...cpu.builder import Builder, constant, int32, lanes_of, vector_type
from ...cpu.lazy import Lazy, Leaf
from ..attributes import describe, flag, require_equal, text
from ..registry import lowers
from ..state import Lowering
from .movement import source_of

_MODES = {name: name.removeprefix("bi") for name in ("nearest", "linear", "bilinear", "cubic", "bicubic")}
_CUBIC = -0.75  # PyTorch's and ONNX's coefficient of Keys' kernel
_FAR = float(1 << 24)  # beyond it a float32 names no element; NaN is treated so, too


@dataclass(frozen=True)
class _Sampler:
    """How a place is read: `mode` is nearest, linear or cubic; `padding` zeros, border or reflection."""

    mode: str
    padding: str
    corners: bool

    def place(self, b: Builder, normal: Any, extent: Any) -> Any:
        """The coordinate in elements of one between -1 and 1, moved inside as `padding` says."""
        size = _float(extent, normal)
        if self.corners:
            at = (normal + _like(1, normal)) * (size - _like(1, normal)) * _like(0.5, normal)
        else:
            at = ((normal + _like(1, normal)) * size - _like(1, normal)) * _like(0.5, normal)
        at = b.hold(at)
        near = _between(at, _like(-_FAR, at), _like(_FAR, at))
        at = b.hold(tir.Select(tir.EQ(at, at), near, _like(-_FAR, at)))
        if self.mode == "nearest":
            at = b.hold(tir.nearbyint(at))
        if self.padding == "border":
            return b.hold(_between(at, _like(0, at), size - _like(1, at)))
        return b.hold(self._reflected(b, at, size)) if self.padding == "reflection" else at

    def _reflected(self, b: Builder, at: Any, size: Any) -> Any:
        """Folded back and forth between the first and last element, or their outer edges."""
        low = _like(0 if self.corners else -0.5, at)
        span = size - _like(1, at) if self.corners else size
        safe = b.hold(tir.Select(span > _like(0, at), span, _like(1, at)))
        distance = b.hold(tir.Select(at < low, low - at, at - low))
        turns = b.hold(tir.floor(distance / safe))
        rest = distance - turns * safe
        odd = tir.NE(turns - _like(2, at) * tir.floor(turns * _like(0.5, at)), _like(0, at))
        folded = b.hold(low + tir.Select(odd, safe - rest, rest))
        inside = tir.And(at >= low, at <= low + span)
        return tir.Select(inside, at, tir.Select(span > _like(0, at), folded, _like(0, at)))

    def element(self, b: Builder, tap: Any, extent: Any) -> tuple[Any, Any]:
        """(index inside, whether the tap lies inside) of a whole coordinate."""
        size = _float(extent, tap)
        if self.padding == "reflection":
            tap = self._reflected(b, tap, size)
        index = _between(tap, _like(0, tap), size - _like(1, tap))
        index = tir.Cast(vector_type("int32", lanes_of(tap)), index)
        inside = tir.And(tap >= _like(0, tap), tap <= size - _like(1, tap))
        return b.hold(index), inside

    def taps(self, b: Builder, at: Any) -> list[tuple[Any, Any]]:
        """(whole coordinate, weight) of what is read along one axis; the weight of a single tap is None."""
        if self.mode == "nearest":
            return [(at, None)]
        first = b.hold(tir.floor(at))
        t = b.hold(at - first)
        if self.mode == "linear":
            return [(first, _like(1, t) - t), (b.hold(first + _like(1, t)), t)]
        weights = [_outer(t + _like(1, t)), _inner(t), _inner(_like(1, t) - t), _outer(_like(2, t) - t)]
        return [(b.hold(first + _like(n - 1, t)), b.hold(weight)) for n, weight in enumerate(weights)]


def _like(value: float, x: Any) -> Any:
    return constant(float(value), "float32", lanes_of(x))


def _float(size: Any, x: Any) -> Any:
    if isinstance(size, int):
        return _like(size, x)
    return tir.Cast("float32", int32(size) + int32(0))


def _between(x: Any, low: Any, high: Any) -> Any:
    return tir.min(tir.max(x, low), high)


def _inner(t: Any) -> Any:
    """Keys' kernel at a distance of at most 1."""
    a = _like(_CUBIC, t)
    return ((a + _like(2, t)) * t - (a + _like(3, t))) * t * t + _like(1, t)


def _outer(t: Any) -> Any:
    """Keys' kernel at a distance between 1 and 2."""
    a = _like(_CUBIC, t)
    return ((a * t - _like(5, t) * a) * t + _like(8, t) * a) * t - _like(4, t) * a


@lowers("GridSample")
def lower_grid_sample(state: Lowering, node: ir.Node) -> None:
    """An image (N, C, spatial axes) at a grid (N, new axes, coordinates, the last axis first), float32."""
    image, grid = (Leaf(state.tensor(source_of(state, node, i))) for i in range(2))
    rank = len(image.shape) - 2
    require_equal(node, "axes of the grid", (rank + 2, rank), (len(grid.shape), grid.shape[-1]))
    mode = _MODES.get(text(node, "mode", "linear"))
    padding = text(node, "padding_mode", "zeros")
    if mode is None or padding not in ("zeros", "border", "reflection"):
        raise UnsupportedError("unknown mode", where=describe(node), got=text(node, "mode", padding))
    if any(source.dtype not in ("float32", "float16", "bfloat16") for source in (image, grid)):
        raise UnsupportedError("only float32", where=describe(node), got=[image.dtype, grid.dtype])
    sampler = _Sampler(mode, padding, flag(node, "align_corners"))
    shape = (*image.shape[:2], *grid.shape[1:-1])
    extents = image.shape[2:]

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        b = scope.builder
        axes = []
        for axis, extent in enumerate(extents):
            normal = sources[1].at(scope, [index[0], *index[2:], int32(rank - 1 - axis)])
            axes.append(_axis(b, sampler, sampler.place(b, b.hold(normal), extent), extent))
        total: Any = None
        for taps in product(*axes):
            value = sources[0].at(scope, [*index[:2], *(at for at, _, _ in taps)])
            if padding == "zeros":
                inside = taps[0][1]
                for _, more, _ in taps[1:]:
                    inside = tir.And(inside, more)
                value = tir.Select(inside, value, _like(0, value))
            for _, _, weight in taps:
                value = value if weight is None else value * weight
            total = value if total is None else b.hold(total + value)
        return total

    moved = state.moved([image, grid], shape, pick, "grid-sample", sampler, extents, conditional=True)
    state.define(node.outputs[0], Leaf(state.tensor(moved, node.name or "grid_sample")))


def _axis(b: Builder, sampler: _Sampler, at: Any, extent: Any) -> list[tuple[Any, Any, Any]]:
    """(index, whether it lies inside, weight) of every tap along an axis."""
    return [(*sampler.element(b, tap, extent), weight) for tap, weight in sampler.taps(b, at)]
