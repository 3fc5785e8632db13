"""Integer products as plain sums in int32: exact, for what no integer kernel takes. Simple, not fast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..cpu.builder import int32
from ..cpu.lazy import Fill, Lazy, Leaf, broadcast_shapes
from ..cpu.reduction import Reduction
from ..cpu.tensor import contiguous
from .state import Lowering

__all__ = ["convolution_sums", "matrix_sums", "whole_numbers"]


def whole_numbers(state: Lowering, value: Lazy, zero_point: Lazy | None) -> Lazy:
    """`value` - `zero_point` in int32; the zero point broadcasts."""
    wide = state.elementwise("Cast", [value], "int32")
    if zero_point is None or (isinstance(zero_point, Fill) and zero_point.value == 0):
        return wide
    return state.elementwise("Sub", [wide, state.elementwise("Cast", [zero_point], "int32")], "int32")


def matrix_sums(state: Lowering, left: Lazy, right: Lazy) -> Lazy:
    """(…, M, K) · (…, K, N) of int32 values, batch axes broadcast."""
    left, right = (Leaf(state.tensor(v)) for v in (left, right))
    rows, depth, columns = left.shape[-2], left.shape[-1], right.shape[-1]
    batch = broadcast_shapes([left.shape[:-2], right.shape[:-2]])
    rank = len(batch)

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        row, k, column = index[rank:]
        factors = []
        for source, place in zip(sources, ([row, k], [k, column]), strict=True):
            own = index[rank - len(source.shape) + 2 : rank]
            own = [int32(0) if n == 1 else i for i, n in zip(own, source.shape[:-2], strict=True)]
            factors.append(source.at(scope, [*own, *place]))
        return factors[0] * factors[1]

    terms = state.moved([left, right], (*batch, rows, depth, columns), pick, "matrix-terms")
    out = state.new_tensor("sums", "int32", (*batch, rows, 1, columns))
    state.steps.append(Reduction(terms, (rank + 1,), "sum", out))
    return Leaf(out.view((*batch, rows, columns), (*out.strides[:rank], columns, 1)))


def convolution_sums(
    state: Lowering,
    image: Lazy,
    weights: Lazy,
    groups: int,
    strides: Sequence[int],
    dilations: Sequence[int],
    sizes: Sequence[int],
) -> Lazy:
    """Padded (N, C, …) convolved with (M, C / groups, …), both of one type, to (N, M, *sizes)."""
    image, weights = (Leaf(state.tensor(v)) for v in (image, weights))
    batch, outputs, own, *kernel = image.shape[0], *weights.shape
    space = len(kernel)
    per_group = outputs // groups

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        n, g, o, c = index[:4]
        taps, place = index[4 : 4 + space], index[4 + space :]
        at = [i * s + t * d for i, s, t, d in zip(place, strides, taps, dilations, strict=True)]
        pixel = sources[0].at(scope, [n, g * own + c, *at])
        return pixel * sources[1].at(scope, [g * per_group + o, c, *taps])

    shape = (batch, groups, per_group, own, *kernel, *sizes)
    terms = state.moved([image, weights], shape, pick, "convolution-terms", *strides, *dilations)
    kept = [1 if 3 <= a < 4 + space else n for a, n in enumerate(shape)]
    out = state.new_tensor("sums", image.dtype, kept)
    state.steps.append(Reduction(terms, tuple(range(3, 4 + space)), "sum", out))
    full = (batch, outputs, *sizes)
    return Leaf(out.view(full, contiguous(full)))
