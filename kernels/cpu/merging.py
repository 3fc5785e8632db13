"""Treats neighbouring axes as one longer axis where every read stays affine.

A 1×32×56×56 sum of two contiguous tensors becomes one loop of 100,352; a per-channel scale leaves two axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from tvm import tirx as tir
from tvm.sym import Analyzer, detect_linear_equation

from ..dims import Size
from .builder import Builder, constant, int32
from .element_types import computed_type
from .iota import Iota
from .lazy import Lazy, Moved, Scope
from .size_values import SizeValues
from .tensor import Tensor

__all__ = ["Probe", "merge_axes", "unmerge"]


@dataclass
class Probe(Scope):
    """A scope that notes what is loaded, and at which offsets, instead of loading."""

    loads: list[tuple[Tensor, Any]] = field(default_factory=list)

    def load(self, tensor: Tensor, offset: Any, lanes: int = 1) -> Any:
        self.loads.append((tensor, offset))
        return constant(1, computed_type(tensor.dtype), lanes)


def unmerge(groups: Sequence[Sequence[int]], shape: Sequence[Size], values: Sequence[Any]) -> list[Any]:
    """The index of every axis, from one index per group of merged axes."""
    index: list[Any] = [int32(0)] * len(shape)
    for group, value in zip(groups, values, strict=True):
        inner: Size = 1
        for axis in reversed(group):
            rest = value if inner == 1 else tir.floordiv(value, int32(inner))
            outermost = axis == group[0]
            index[axis] = rest if outermost else tir.floormod(rest, int32(shape[axis]))
            inner *= shape[axis]
    return index


def merge_axes(
    b: Builder,
    values: Sequence[Lazy],
    shape: tuple[Size, ...],
    kinds: Sequence[int] | None = None,
    order: Sequence[int] | None = None,
) -> list[list[int]]:
    """Groups of neighbouring axes (outer to inner) over which all loads of `values` stay affine.

    Axes of different `kinds` (kept, reduced) are never merged; axes of extent 1 are left out. `order` names
    all axes from the outermost to the innermost, where that is not their order in `shape`.
    """
    kinds = kinds or [0] * len(shape)
    axes = [a for a in order or range(len(shape)) if shape[a] != 1]
    groups = [[a] for a in axes]
    if any(_conditional(v) for v in values):
        return groups
    position = len(groups) - 2
    while position >= 0:
        pair = groups[position] + groups[position + 1]
        same = kinds[pair[0]] == kinds[pair[-1]]
        if same and _affine(b, values, shape, [*groups[:position], pair, *groups[position + 2 :]], position):
            groups[position : position + 2] = [pair]
        position -= 1
    return groups


def _conditional(value: Lazy) -> bool:
    own = isinstance(value, Moved | SizeValues | Iota) and value.conditional
    return own or any(_conditional(part) for part in value.parts())


def _affine(
    b: Builder, values: Sequence[Lazy], shape: tuple[Size, ...], groups: list[list[int]], position: int
) -> bool:
    analyzer = Analyzer()
    variables = [tir.Var(f"g{i}", "int32") for i in range(len(groups))]
    for var, group in zip(variables, groups, strict=True):
        analyzer.bind(var, _range(prod(shape[a] for a in group)))
    probe = Probe(Builder(b.isa), {})  # what evaluation writes is thrown away
    index = unmerge(groups, shape, variables)
    for value in values:
        value.at(probe, [analyzer.simplify(i) for i in index])
    var = variables[position]
    return all(len(detect_linear_equation(analyzer.simplify(o), [var])) == 2 for _, o in probe.loads)


def _range(extent: Size) -> Any:
    from tvm.ir import Range

    return Range(int32(0), int32(extent))
