"""Resize of axes of any extent: places and weights are computed where they are used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import onnx_ir as ir
from tvm import tirx as tir

from gossamer.runtime.errors import UnsupportedError

from ...cpu.arithmetic import maximum, minimum
from ...cpu.builder import int32, lanes_of
from ...cpu.lazy import Lazy, Leaf
from ...dims import Size, is_fixed
from ..attributes import describe, flag, integers, number, text
from ..state import Lowering

__all__ = ["any_resize"]

_MOST_PARTS = 64  # of a scale's denominator


@dataclass(frozen=True)
class _Axis:
    """One resized axis; `scale` is None where it is new / old."""

    axis: int
    old: Size
    new: Size
    scale: float | None
    mode: str

    def place(self, i: Any) -> Any:
        """Source coordinate of index i, in float32; integers are centres of elements."""
        old, new, i = _real(int32(self.old)), _real(int32(self.new)), _real(i)
        scale = new / old if self.scale is None else tir.const(self.scale, "float32")
        half = tir.const(0.5, "float32")
        if self.mode == "half_pixel":
            return (i + half) / scale - half
        if self.mode == "pytorch_half_pixel":
            return tir.Select(int32(self.new) > 1, (i + half) / scale - half, tir.const(0.0, "float32"))
        if self.mode == "half_pixel_symmetric":
            shift = old * half * (tir.const(1.0, "float32") - new / (scale * old))
            return shift + (i + half) / scale - half
        if self.mode == "asymmetric":
            return i / scale
        one = tir.const(1.0, "float32")  # align_corners
        return i * (old - one) / tir.max(new - one, one)


def _real(value: Any) -> Any:
    lanes = lanes_of(value)
    return tir.Cast("float32" if lanes == 1 else f"float32x{lanes}", value)


_ROUNDINGS: dict[str, Callable[[Any], Any]] = {
    "round_prefer_floor": lambda x: tir.ceil(x - tir.const(0.5, "float32")),
    "round_prefer_ceil": lambda x: tir.floor(x + tir.const(0.5, "float32")),
    "floor": tir.floor,
    "ceil": tir.ceil,
}


def any_resize(state: Lowering, node: ir.Node, source: Lazy) -> Lazy:
    """Nearest, linear and cubic, without antialiasing and cropping."""
    axes = [
        axis for axis in _axes(state, node, source) if axis.old != axis.new or axis.scale not in (None, 1.0)
    ]
    mode = text(node, "mode", "nearest")
    if mode == "nearest":
        return _nearest(state, node, source, axes)
    if source.dtype != "float32" or flag(node, "antialias"):
        _refuse(node, "float32 without antialias", source.dtype)
    for axis in axes:
        source = _interpolated(state, node, source, axis, cubic=mode == "cubic")
    return source


def _refuse(node: ir.Node, expected: str, got: object) -> None:
    advice = "give --input-shape numbers"
    raise UnsupportedError(
        "images of any size are resized in few ways",
        where=describe(node), expected=expected, got=got, advice=advice,
    )  # fmt: skip


def _axes(state: Lowering, node: ir.Node, source: Lazy) -> list[_Axis]:
    rank = len(source.shape)
    axes = [a % rank for a in integers(node, "axes", range(rank))]
    mode = text(node, "coordinate_transformation_mode", "half_pixel")
    if mode == "tf_crop_and_resize" or text(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        _refuse(node, "no cropping, and aspect ratios stretched", mode)
    value = node.inputs[2] if len(node.inputs) > 2 else None
    scales = state.constant(value)
    if scales is not None and scales.size:
        known = zip(axes, (float(s) for s in scales), strict=True)
        return [_Axis(a, source.shape[a], _scaled(node, source.shape[a], s), s, mode) for a, s in known]
    sizes = state.integers(node.inputs[3] if len(node.inputs) > 3 else None)
    if sizes is None:
        _refuse(node, "constant scales, or sizes computed from shapes", "values known only at run time")
    return [_Axis(a, source.shape[a], n, None, mode) for a, n in zip(axes, sizes or (), strict=True)]


def _scaled(node: ir.Node, size: Size, scale: float) -> Size:
    """⌊size · scale⌋."""
    if is_fixed(size):
        return int(size * scale)
    exact = Fraction(scale).limit_denominator(_MOST_PARTS)
    if abs(float(exact) - scale) > 1e-7 * scale:
        _refuse(node, f"a scale that is a fraction of at most {_MOST_PARTS} parts", scale)
    return size * exact.numerator // exact.denominator


def _nearest(state: Lowering, node: ir.Node, source: Lazy, axes: list[_Axis]) -> Lazy:
    rounding = text(node, "nearest_mode", "round_prefer_floor")
    shape = list(source.shape)
    for axis in axes:
        shape[axis.axis] = axis.new

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        place = list(index)
        for axis in axes:
            found = tir.Cast("int32", _ROUNDINGS[rounding](axis.place(index[axis.axis])))
            place[axis.axis] = minimum(maximum(found, int32(0)), int32(axis.old - 1))
        return sources[0].at(scope, place)

    return state.moved([source], shape, pick, "any-nearest", rounding, tuple(axes), conditional=True)


def _interpolated(state: Lowering, node: ir.Node, source: Lazy, axis: _Axis, *, cubic: bool) -> Lazy:
    """Σ weight · source[place] along one axis, in memory: the next pass reads it several times."""
    source = Leaf(state.tensor(source))
    at, sharpness = axis.axis, number(node, "cubic_coeff_a", -0.75)
    inside_only = flag(node, "exclude_outside")
    shape = (*source.shape[:at], axis.new, *source.shape[at + 1 :])

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        b, last = scope.builder, int32(axis.old - 1)
        place = axis.place(index[at])
        if not cubic:
            place = tir.min(tir.max(place, tir.const(0.0, "float32")), _real(last))
        place = b.hold(place)
        first = b.hold(tir.floor(place))
        total: Any = tir.const(0.0, "float32")
        weights: Any = tir.const(0.0, "float32")
        for tap in (-1, 0, 1, 2) if cubic else (0, 1):
            distance = b.hold(place - (first + tir.const(float(tap), "float32")))
            weight = _keys(distance, sharpness, tap) if cubic else _triangle(distance)
            where = tir.Cast("int32", first) + tap
            if inside_only:
                weight = tir.Select(tir.And(where >= 0, where <= last), weight, tir.const(0.0, "float32"))
            weight = b.hold(weight)
            where = minimum(maximum(where, int32(0)), last)
            total = b.hold(total + weight * sources[0].at(scope, [*index[:at], where, *index[at + 1 :]]))
            weights = b.hold(weights + weight)
        return total / weights if inside_only else total

    label = ("any-resize", axis, cubic, sharpness, inside_only)
    return Leaf(state.tensor(state.moved([source], shape, pick, *label, conditional=True), "resized"))


def _triangle(x: Any) -> Any:
    return tir.const(1.0, "float32") - tir.abs(x)


def _keys(x: Any, a: float, tap: int) -> Any:
    """Keys' cubic convolution kernel, whose inner part is that of the two nearest elements."""
    x = tir.abs(x)
    if tap in (0, 1):
        return (_number(a + 2) * x - _number(a + 3)) * x * x + _number(1.0)
    return ((_number(a) * x - _number(5 * a)) * x + _number(8 * a)) * x - _number(4 * a)


def _number(value: float) -> Any:
    return tir.const(value, "float32")
