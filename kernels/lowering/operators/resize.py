"""Resize and Upsample: one pass for each resized axis, by tables of places and weights made in advance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from tvm import tirx as tir

from gossamer.runtime.errors import UnsupportedError

from ...cpu.builder import constant, int32
from ...cpu.lazy import Lazy, Leaf
from ...dims import is_fixed
from ..any_size.resize import any_resize
from ..attributes import describe, flag, integers, number, text
from ..interpolation import Sampling, Taps, interpolation_taps, nearest_places
from ..registry import lowers
from ..state import Lowering, static_shape
from ..variants import is_wide
from .movement import constant_input, source_of

_MOST_TAPS = 32  # terms written out for one element


@dataclass(frozen=True)
class _Axis:
    """One resized axis: extents before and after, and how places are found."""

    axis: int
    sampling: Sampling


@lowers("Resize", takes=is_wide)
def lower_resize(state: Lowering, node: ir.Node) -> None:
    """Nearest, linear and cubic over any axes; scales, sizes and regions must be constant."""
    source = source_of(state, node)
    rank = len(source.shape)
    if not is_fixed(*source.shape):
        state.define(node.outputs[0], any_resize(state, node, source))
        return
    shape = static_shape(node.outputs[0], describe(node))
    axes = [a % rank for a in integers(node, "axes", range(rank))]
    roi = constant_input(state, node, 1, "the region")
    scales = constant_input(state, node, 2, "the scales")
    policy = text(node, "keep_aspect_ratio_policy", "stretch")
    given = None
    if scales is not None and scales.size:
        given = dict(zip(axes, (float(s) for s in scales), strict=True))
    elif policy != "stretch":
        sizes = constant_input(state, node, 3, "the sizes")
        assert sizes is not None
        ratios = [int(s) / source.shape[a] for a, s in zip(axes, sizes, strict=True)]
        given = dict.fromkeys(axes, min(ratios) if policy == "not_larger" else max(ratios))
    mode = text(node, "coordinate_transformation_mode", "half_pixel")
    region = [0.0] * len(axes) + [1.0] * len(axes) if roi is None or not roi.size else roi.tolist()
    jobs = []
    for i, axis in enumerate(axes):
        old, new = source.shape[axis], shape[axis]
        scale = given[axis] if given else new / old
        bounds = (region[i], region[i + len(axes)])
        jobs.append(_Axis(axis, Sampling(old, new, scale, mode, bounds)))
    state.define(node.outputs[0], _resized(state, node, source, jobs))


@lowers("Upsample")
def lower_upsample(state: Lowering, node: ir.Node) -> None:
    """Resize's forerunner: places are index / scale."""
    source = source_of(state, node)
    shape = static_shape(node.outputs[0], describe(node))
    scales = constant_input(state, node, 1, "the scales")
    if scales is None:
        scales = np.asarray(node.attributes["scales"].as_floats())
    jobs = [
        _Axis(axis, Sampling(old, new, float(scale), "asymmetric"))
        for axis, (old, new, scale) in enumerate(zip(source.shape, shape, scales, strict=True))
    ]
    state.define(node.outputs[0], _resized(state, node, source, jobs))


def _resized(state: Lowering, node: ir.Node, source: Lazy, jobs: list[_Axis]) -> Lazy:
    jobs = [job for job in jobs if not job.sampling.is_identity]
    mode = text(node, "mode", "nearest")
    if not jobs:
        return source
    if mode == "nearest":
        result = _nearest(state, node, source, jobs)
    else:
        result = source
        if source.dtype != "float32":
            raise UnsupportedError("only float32 is interpolated", where=describe(node), got=source.dtype)
        for job in sorted(jobs, key=lambda j: j.sampling.new / j.sampling.old):  # shrinks first: less work
            taps = interpolation_taps(
                job.sampling,
                mode,
                cubic=number(node, "cubic_coeff_a", -0.75),
                exclude_outside=flag(node, "exclude_outside"),
                antialias=flag(node, "antialias"),
            )
            if len(taps.places) > _MOST_TAPS:
                raise UnsupportedError(
                    "shrinks too far for a filter",
                    where=describe(node),
                    expected=f"at most {_MOST_TAPS} taps",
                    got=len(taps.places),
                )
            result = _interpolated(state, result, job.axis, taps)
    return _outside_filled(state, result, jobs, number(node, "extrapolation_value", 0.0))


def _nearest(state: Lowering, node: ir.Node, source: Lazy, jobs: list[_Axis]) -> Lazy:
    """Every element is one of the source: by a division where the scale is whole, else by a table."""
    rounding = "floor" if node.op_type == "Upsample" else text(node, "nearest_mode", "round_prefer_floor")
    shape = list(source.shape)
    steps: dict[int, tuple[int, int] | int] = {}  # axis -> (multiplier, divisor) or number of the table
    tables: list[Lazy] = []
    for job in jobs:
        shape[job.axis] = job.sampling.new
        places = nearest_places(job.sampling, rounding)
        ratio = _whole_ratio(job.sampling, places)
        if ratio is None:
            tables.append(Leaf(state.pool.add(f"{node.name}.places", places)))
        steps[job.axis] = len(tables) if ratio is None else ratio

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        place = list(index)
        for axis, step in steps.items():
            if isinstance(step, int):
                place[axis] = sources[step].at(scope, [index[axis]])
            else:
                place[axis] = tir.floordiv(index[axis] * step[0], int32(step[1]))
        return sources[0].at(scope, place)

    label = tuple(sorted((axis, str(step)) for axis, step in steps.items()))
    return state.moved([source, *tables], shape, pick, "nearest", label)


def _whole_ratio(sampling: Sampling, places: np.ndarray) -> tuple[int, int] | None:
    """(multiplier, divisor) when place = index · multiplier // divisor, one of them 1."""
    index = np.arange(sampling.new)
    for ratio in ((1, max(1, round(sampling.scale))), (max(1, round(1 / sampling.scale)), 1)):
        if np.array_equal(places, index * ratio[0] // ratio[1]):
            return ratio
    return None


def _interpolated(state: Lowering, source: Lazy, axis: int, taps: Taps) -> Lazy:
    """Σ weight · source[place] along one axis, in memory: the next pass reads it several times."""
    source = Leaf(state.tensor(source))
    count, new = taps.places.shape
    shape = (*source.shape[:axis], new, *source.shape[axis + 1 :])
    places = Leaf(state.pool.add("resize.places", taps.places.reshape(-1)))
    weights = Leaf(state.pool.add("resize.weights", taps.weights.reshape(-1)))

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        total: Any = None
        for t in range(count):
            at = sources[1].at(scope, [index[axis] + t * new])
            term = sources[0].at(scope, [*index[:axis], at, *index[axis + 1 :]])
            term = term * sources[2].at(scope, [index[axis] + t * new])
            total = term if total is None else total + term
        return total

    moved = state.moved([source, places, weights], shape, pick, "interpolate", axis, count)
    return Leaf(state.tensor(moved, "resized"))


def _outside_filled(state: Lowering, value: Lazy, jobs: list[_Axis], fill: float) -> Lazy:
    """Cropping modes write `fill` where the region leaves the source."""
    masks = {job.axis: job.sampling.outside() for job in jobs}
    masks = {axis: mask for axis, mask in masks.items() if mask.any()}
    if not masks:
        return value
    axes = list(masks)
    tables = [Leaf(state.pool.add("resize.outside", masks[a].astype(np.int32))) for a in axes]

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        result = sources[0].at(scope, index)
        for table, axis in zip(sources[1:], axes, strict=True):
            beyond = tir.NE(table.at(scope, [index[axis]]), int32(0))
            result = tir.Select(beyond, constant(fill, value.dtype), result)
        return result

    return state.moved([value, *tables], value.shape, pick, "fill-outside", fill, tuple(axes))
