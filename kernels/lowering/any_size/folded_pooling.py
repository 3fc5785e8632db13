"""Pooling as a fold over the elements of each window: any window on any number of axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from tvm import tirx as tir

from ...cpu.builder import constant, int32
from ...cpu.lazy import Fill, Lazy, Leaf, Moved
from ...cpu.reduction import Reduction, identity
from ...dims import fixed
from ..attributes import describe, flag, integer
from ..state import Lowering
from .pooling import Windows, element, windows_of

__all__ = ["folded_pool", "largest_places"]

_NOWHERE = np.iinfo(np.int64).max


def folded_pool(state: Lowering, node: ir.Node, source: Lazy, kernel: Sequence[int]) -> Lazy:
    """MaxPool, AveragePool or LpPool with a window of `kernel`, in memory."""
    source = Leaf(state.tensor(source, node.name or "pool_in"))
    windows, sizes = windows_of(node, source.shape[2:], kernel)
    if node.op_type == "LpPool":
        return _norms(state, node, source, windows, sizes)
    if node.op_type == "MaxPool":
        return _folded(state, _elements(state, source, windows, sizes, identity("max", source.dtype)), "max")
    total = _folded(state, _elements(state, source, windows, sizes, 0), "sum")
    counts = _counts(node, windows, sizes).astype(source.dtype)
    shared = Leaf(state.pool.add(f"{node.name}.counts", counts)) if counts.size > 1 else _only(counts)
    return state.elementwise("Div", [total, shared], source.dtype)


def largest_places(state: Lowering, node: ir.Node, source: Lazy, pooled: Lazy, kernel: Sequence[int]) -> Lazy:
    """MaxPool's second output: where in the whole input (int64) a window's first largest element lies."""
    source, pooled = Leaf(state.tensor(source)), Leaf(state.tensor(pooled))
    windows, sizes = windows_of(node, source.shape[2:], kernel)
    elements = _elements(state, source, windows, sizes, identity("max", source.dtype))
    spread = state.moved(
        [pooled], elements.shape, lambda s, scope, index: s[0].at(scope, index[:-1]), "spread"
    )
    here = state.elementwise("Equal", [elements, spread], "bool")
    places = _flat_places(source.shape, windows, sizes)
    found = _folded(
        state, state.elementwise("Where", [here, places, Fill(_NOWHERE, "int64")], "int64"), "min"
    )
    if not integer(node, "storage_order", 0):
        return found
    return _column_major(state, found, [fixed(n, describe(node)) for n in source.shape[2:]])


def _elements(state: Lowering, source: Leaf, windows: Windows, sizes: Sequence[Any], neutral: float) -> Lazy:
    """[N, C, windows …, elements of a window]; `neutral` outside the image."""

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        return element(sources[0], scope, index[:-1], windows, _taps(index[-1], windows.kernel), neutral)

    shape = (*source.shape[:2], *sizes, prod(windows.kernel))
    return state.moved([source], shape, pick, "window", windows, neutral, conditional=True)


def _taps(number: Any, kernel: Sequence[int]) -> list[Any]:
    """Coordinates in the window of its element of that number, row-major."""
    behind = [prod(kernel[axis + 1 :]) for axis in range(len(kernel))]
    return [
        tir.floormod(tir.floordiv(number, int32(b)), int32(k)) for b, k in zip(behind, kernel, strict=True)
    ]


def _folded(state: Lowering, elements: Lazy, fold: str) -> Lazy:
    """Without the last axis."""
    *kept, _ = elements.shape
    out = state.new_tensor("pooled", elements.dtype, (*kept, 1))
    state.steps.append(Reduction(elements, (len(kept),), fold, out))
    return Leaf(out.view(tuple(kept), out.strides[:-1]))


def _counts(node: ir.Node, windows: Windows, sizes: Sequence[Any]) -> np.ndarray:
    """Elements averaged: those inside the image, or inside its padded form; [1, 1, windows …]."""
    padded = flag(node, "count_include_pad")
    total = np.ones((1, 1, *([1] * len(sizes))), np.int64)
    for axis, size in enumerate(fixed(size, describe(node)) for size in sizes):
        extent, before = (fixed(n, describe(node)) for n in (windows.space[axis], windows.before[axis]))
        start = np.arange(size) * windows.strides[axis] - before
        at = start[:, None] + np.arange(windows.kernel[axis]) * windows.dilations[axis]
        low, high = (-before, extent + fixed(windows.after[axis], "pads")) if padded else (0, extent)
        along = ((at >= low) & (at < high)).sum(1)
        total = total * along.reshape((-1,) + (1,) * (len(sizes) - 1 - axis))
    return total


def _only(counts: np.ndarray) -> Lazy:
    return Fill(counts.reshape(-1)[0].item(), str(counts.dtype))


def _norms(state: Lowering, node: ir.Node, source: Leaf, windows: Windows, sizes: Sequence[Any]) -> Lazy:
    """(Σ |x|^p)^(1/p)"""
    p, dtype = integer(node, "p", 2), source.dtype
    powers = state.elementwise("Abs", [_elements(state, source, windows, sizes, 0)], dtype)
    if p != 1:
        powers = state.elementwise("Pow", [powers], dtype, exponent=float(p))
    total = _folded(state, powers, "sum")
    return total if p == 1 else state.elementwise("Pow", [total], dtype, exponent=1.0 / p)


def _flat_places(shape: Sequence[Any], windows: Windows, sizes: Sequence[Any]) -> Lazy:
    """Where each element of each window lies in the whole input, row-major; a huge number outside."""

    def pick(scope: Any, index: list[Any]) -> Any:
        batch, channel, *window, number = index
        flat: Any = tir.Cast("int64", batch * shape[1] + channel)
        inside: Any = tir.const(True, "bool")
        for at, extent in zip(
            windows.places(window, _taps(number, windows.kernel)), windows.space, strict=True
        ):
            inside = tir.And(inside, tir.And(at >= 0, at < extent))
            flat = flat * tir.Cast("int64", int32(extent)) + tir.Cast("int64", at)
        return tir.Select(inside, flat, constant(_NOWHERE, "int64"))

    full = (*shape[:2], *sizes, prod(windows.kernel))
    return Moved((), full, "int64", pick, ("places", tuple(shape), windows))


def _column_major(state: Lowering, places: Lazy, space: Sequence[int]) -> Lazy:
    """The same places, counted with the first axis of the image fastest."""

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        flat = scope.builder.hold(sources[0].at(scope, index))
        plane = tir.const(prod(space), "int64")
        result, step = flat - tir.truncmod(flat, plane), 1
        for axis, extent in enumerate(space):
            behind = tir.const(prod(space[axis + 1 :]), "int64")
            at = tir.truncmod(tir.truncdiv(flat, behind), tir.const(extent, "int64"))
            result = result + at * tir.const(step, "int64")
            step *= extent
        return result

    return state.moved([places], places.shape, pick, "column major", tuple(space))
