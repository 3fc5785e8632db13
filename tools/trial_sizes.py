"""Sizes that an artifact is verified at: a few for each name that inputs leave open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gossamer.kernels.dims import BOUNDS
from gossamer.runtime.errors import GossamerError
from gossamer.runtime.feeds import random_feeds

from .engines import Tensor

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["open_sizes", "trial_feeds"]

_LADDER = (1, 2, 3, 5, 7, 13, 24, 33, 64, 100, 128, 192, 256, 384, 512, 576, 640, 1024, 2048)
_MOST = 3  # trials
Sizes = dict[str, int]
Arrays = dict[str, np.ndarray[Any, Any]]


def open_sizes(prepared: ir.Model) -> dict[str, tuple[int, int | None]]:
    """Least and most of every name in the inputs' shapes."""
    given: Mapping[str, tuple[int, int | None]] = prepared.graph.meta.get(BOUNDS, {})
    names = [name for value in prepared.graph.inputs for _, name in _axes(value) if name]
    return {name: given.get(name, (1, None)) for name in names}


def trial_feeds(prepared: ir.Model, runs: Any) -> Iterator[tuple[Sizes, Arrays, Any]]:
    """Sizes, random inputs, and what `runs(feeds)` gives: at the least sizes that it takes, and larger ones.

    One trial without sizes for a model that leaves none open; there an error of `runs` is raised.
    """
    bounds = open_sizes(prepared)
    if not bounds:
        feeds = random_feeds(_inputs(prepared, {}))
        yield {}, feeds, runs(feeds)
        return
    failed: GossamerError | None = None
    used: list[int] = []
    for step, apart in _steps(bounds):
        if len(used) == _MOST or step in used or (used and step < apart * used[-1]):
            continue
        sizes = {name: _size(name, step, len(used), bound) for name, bound in bounds.items()}
        feeds = random_feeds(_inputs(prepared, sizes))
        try:
            result = runs(feeds)
        except GossamerError as error:
            failed = error
            continue
        used.append(step)
        yield sizes, feeds, result
    if not used and failed is not None:
        raise failed


def _steps(bounds: Mapping[str, tuple[int, int | None]]) -> Iterator[tuple[int, int]]:
    """Sizes to try, and how many times the last one they must be: far apart first, then any."""
    ladder = _ladder(bounds)
    yield from ((step, 1 if step == ladder[-1] else 3) for step in ladder)
    yield from ((step, 0) for step in ladder)


def _ladder(bounds: Mapping[str, tuple[int, int | None]]) -> Sequence[int]:
    largest = _largest(bounds)
    return sorted({*(n for n in _LADDER if n <= largest), largest})


def _largest(bounds: Mapping[str, tuple[int, int | None]]) -> int:
    """The largest bound that was given; else as far as the ladder goes."""
    given = [most for _, most in bounds.values() if most is not None]
    return min(max(given), _LADDER[-1]) if given else _LADDER[-1]


def _size(name: str, step: int, trial: int, bound: tuple[int, int | None]) -> int:
    least, most = bound
    few = name.lower().startswith(("batch", "unk_", "n_"))  # images and the like, which are large themselves
    size = 1 + trial if few else step
    return max(least, size if most is None else min(size, most))


def _inputs(prepared: ir.Model, sizes: Sizes) -> list[Tensor]:
    return [
        Tensor(
            value.name or "", value.dtype.numpy().name, tuple(_number(axis, sizes) for axis in _axes(value))
        )
        for value in prepared.graph.inputs
        if not value.is_initializer() and value.dtype is not None and value.shape is not None
    ]


def _number(axis: tuple[int, str], sizes: Sizes) -> int:
    return sizes[axis[1]] if axis[1] else axis[0]


def _axes(value: ir.Value) -> list[tuple[int, str]]:
    """(number, ""), or (0, name) of an open size; names as `kernels/lowering/inputs.py` gives them."""
    if value.is_initializer() or value.shape is None:
        return []
    return [
        (dim, "") if isinstance(dim, int) else (0, dim.value or f"{value.name}_dim_{axis}")
        for axis, dim in enumerate(value.shape)
    ]
