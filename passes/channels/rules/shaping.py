"""Operators that change the shape: what an axis is called, and what becomes of axes that are merged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from ..axes import LARGEST_AXIS, Axis, Ties, size_of
from ..registry import ties
from .operands import all_axes, axes_given, constant, given, rank

__all__: list[str] = []


@ties("Transpose")
def _transpose(node: ir.Node, found: Ties) -> None:
    data, result = given(node)[0], node.outputs[0]
    order = list(node.attributes.get_ints("perm", range(rank(data))[::-1]))
    if sorted(order) == list(range(rank(result))) == list(range(rank(data))):
        for place, axis in enumerate(order):
            found.same((data, axis), (result, place))


@ties("Squeeze", "Unsqueeze")
def _squeeze(node: ir.Node, found: Ties) -> None:
    data, result = given(node)[0], node.outputs[0]
    long, short = (data, result) if node.op_type == "Squeeze" else (result, data)
    axes = axes_given(node, "axes", 1) if node.op_type == "Squeeze" else _new_axes(node, rank(result))
    if axes is None and len(given(node)) == 1 and None not in [size_of(axis) for axis in all_axes(data)]:
        axes = [index for _, index in all_axes(data) if size_of((data, index)) == 1]
    if axes is None or len(set(axes)) != rank(long) - rank(short):
        return
    left = [index for index in range(rank(long)) if index not in axes]
    found.free(*((long, index) for index in axes))
    for place, index in enumerate(left):
        found.same((short, place), (long, index))


def _new_axes(node: ir.Node, total: int) -> list[int] | None:
    axes = constant(node, 1)
    return None if axes is None else [int(axis) % max(1, total) for axis in axes]


@ties("Reshape", "Flatten")
def _reshape(node: ir.Node, found: Ties) -> None:
    data, result = given(node)[0], node.outputs[0]
    old, new = all_axes(data), all_axes(result)
    front = _kept(node, old, new)
    back = 0
    while back < min(len(old), len(new)) - front and _alike(old[-1 - back], new[-1 - back]):
        back += 1
    kept = [*zip(old[:front], new[:front], strict=True)]
    kept += zip(old[len(old) - back :], new[len(new) - back :], strict=True)
    middle = old[front : len(old) - back], new[front : len(new) - back]
    if not _divide(found, *middle):
        return
    for one, two in kept:
        found.same(one, two)


def _kept(node: ir.Node, old: Sequence[Axis], new: Sequence[Axis]) -> int:
    """How many of the first axes are surely the same, though their sizes may not be known."""
    shape = constant(node, 1) if node.op_type == "Reshape" else None
    copies = node.op_type == "Reshape" and node.attributes.get_int("allowzero", 0) == 0
    front = 0
    while front < min(len(old), len(new)):
        copied = copies and shape is not None and front < len(shape) and shape[front] == 0
        if not copied and not _alike(old[front], new[front]):
            break
        front += 1
    return front


def _alike(one: Axis, two: Axis) -> bool:
    """Whether two axes have one size, a number or a name."""
    sizes = [axis[0].shape[axis[1]] for axis in (one, two) if axis[0].shape is not None]
    first, second = sizes
    known = isinstance(first, int) or (isinstance(first, ir.SymbolicDim) and first.value is not None)
    return known and first == second


def _divide(found: Ties, old: Sequence[Axis], new: Sequence[Axis]) -> bool:
    """Ties the axes between, which are merged or divided; false where that cannot be told."""
    found.free(*(axis for axis in (*old, *new) if size_of(axis) == 1))
    one, two = ([axis for axis in axes if size_of(axis) != 1] for axes in (old, new))
    sizes = [[size_of(axis) or 0 for axis in axes] for axes in (one, two)]
    if 0 in (*sizes[0], *sizes[1]) or prod(sizes[0]) != prod(sizes[1]):
        return False
    for first, second in _runs(*sizes):
        _tie_run(found, one[first], two[second])
    return True


def _runs(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    """The shortest runs of axes that hold equally many elements; both hold as many in all."""
    i = j = 0
    while i < len(old):
        starts, a, b = (i, j), old[i], new[j]
        i, j = i + 1, j + 1
        while a != b:
            if a < b:
                a, i = a * old[i], i + 1
            else:
                b, j = b * new[j], j + 1
        yield slice(starts[0], i), slice(starts[1], j)


def _tie_run(found: Ties, old: Sequence[Axis], new: Sequence[Axis]) -> None:
    """One axis against several: their merge. Several against several stay pinned."""
    if len(old) == len(new) == 1:
        found.same(old[0], new[0])
    elif len(old) == 1 or len(new) == 1:
        whole, several = (old[0], new) if len(old) == 1 else (new[0], old)
        sizes = [size_of(axis) or 0 for axis in several]
        if prod(sizes) <= LARGEST_AXIS:
            found.merge(whole, several, np.unravel_index(np.arange(prod(sizes)), sizes))


@ties("DepthToSpace", "SpaceToDepth")
def _blocks_of_pixels(node: ir.Node, found: Ties) -> None:
    data, result = given(node)[0], node.outputs[0]
    block = int(node.attributes.get_int("blocksize", 1))
    deep, flat = (data, result) if node.op_type == "DepthToSpace" else (result, data)
    depth, channels = size_of((deep, 1)), size_of((flat, 1))
    found.same((data, 0), (result, 0))
    if depth is None or channels is None or depth != channels * block * block:
        return
    place = np.arange(depth)
    if node.attributes.get_string("mode", "DCR") == "CRD" and node.op_type == "DepthToSpace":
        channel, pixel = place // block**2, place % block**2
    else:
        channel, pixel = place % channels, place // channels
    found.merge((deep, 1), [(flat, 1)], [channel])
    found.mark((deep, 1), pixel)
