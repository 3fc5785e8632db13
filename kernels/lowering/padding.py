"""Values with margins around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import tirx as tir

from ..cpu.arithmetic import maximum, minimum
from ..cpu.builder import int32
from ..cpu.lazy import Lazy
from ..dims import Size, fits, larger
from .state import Lowering

__all__ = ["padded"]


def padded(
    state: Lowering, source: Lazy, before: Sequence[Size], after: Sequence[Size], mode: str, fill: Lazy
) -> Lazy:
    """`source` with margins; outside it every read is moved to a valid place first."""
    old = source.shape
    shape = tuple(b + n + a for b, n, a in zip(before, old, after, strict=True))

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        place, inside = [], []
        for i, b, n, m in zip(index, before, old, shape, strict=True):
            at = i - b if b != 0 else i
            if fits(b, 0) and fits(m - b, n):
                place.append(at)
                continue
            inside.append(tir.And(at >= 0, at < int32(n)))
            place.append(_outside(at, n, mode, larger(b, 0)))
        value = sources[0].at(scope, place)
        if mode != "constant" or not inside:
            return value
        condition = inside[0]
        for more in inside[1:]:
            condition = tir.And(condition, more)
        return tir.Select(condition, value, sources[1].at(scope, [int32(0)] * len(sources[1].shape)))

    label = ("pad", tuple(before), tuple(after), mode)
    return state.moved([source, fill], shape, pick, *label, conditional=True)


def _outside(at: Any, extent: Size, mode: str, reach: Size) -> Any:
    if mode == "reflect":
        period = larger(1, 2 * (extent - 1))
        folded = tir.truncmod(at + period * (1 + reach // period), int32(period))
        return minimum(folded, period - folded)
    if mode == "wrap":
        return tir.truncmod(at + extent * (1 + reach // extent), int32(extent))
    return minimum(maximum(at, int32(0)), int32(extent - 1))
