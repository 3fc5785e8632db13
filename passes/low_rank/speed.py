"""Which sizes of a convolution's factors the kernels' own estimate finds no slower than the dense layer.

A 3 x 3 convolution of stride 1 may run by Winograd's transforms, at half of its multiply-adds or less; its
factors must then save more than multiply-adds say. Estimates are those that choose kernels when a model is
compiled (kernels/lowering), for one target.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..layers import Layer
from .curve import Curve

if TYPE_CHECKING:
    from gossamer.kernels.cpu.isa import Isa

__all__ = ["no_slower"]

Pair = tuple[int, int]


def no_slower(curve: Curve, layer: Layer, target: str) -> Curve | None:
    """The sizes of `curve` that are no slower; all where there is no estimate (products, unknown shapes)."""
    times = _times(layer, curve.family, target)
    if times is None:
        return curve
    dense, split = times
    ranks = sorted({size[0] for size in curve.sizes})
    count = bisect_right(ranks, dense, key=split)  # time grows with the rank
    return curve.up_to(ranks[count - 1]) if count else None


def _times(layer: Layer, family: str, target: str) -> tuple[float, Callable[[int], float]] | None:
    """The dense layer's time, and that of factors by their rank."""
    node, weight = layer.node, layer.weight.shape
    sizes = [None if value is None else value.shape for value in (node.inputs[0], node.outputs[0])]
    if node.op_type != "Conv" or weight is None or len(weight) != 4 or any(s is None for s in sizes):
        return None
    planes = [[n for n in tuple(shape)[2:] if isinstance(n, int)] for shape in sizes if shape is not None]
    if any(len(plane) != 2 for plane in planes):
        return None
    before, after = ((plane[0], plane[1]) for plane in planes)
    outputs, inputs, *window = (int(n) for n in weight.numpy())
    kernel, strides = (window[0], window[1]), _pair(node.attributes.get_ints("strides"))
    estimate = _Estimate(target, _pair(node.attributes.get_ints("dilations")))

    def split(rank: int) -> float:
        if family == "separable":
            middle = (after[0], before[1])
            first = estimate.time(inputs, rank, (kernel[0], 1), (strides[0], 1), before, middle)
            second = estimate.time(rank, outputs, (1, kernel[1]), (1, strides[1]), middle, after)
        else:
            middle = after
            first = estimate.time(inputs, rank, kernel, strides, before, after)
            second = estimate.time(rank, outputs, (1, 1), (1, 1), after, after)
        return first + second + estimate.moving(rank, middle)

    return estimate.time(inputs, outputs, kernel, strides, before, after), split


def _pair(values: Sequence[int] | None) -> Pair:
    return (1, 1) if not values else (int(values[0]), int(values[1]))


class _Estimate:
    """Cycles, roughly, as the choice of kernels counts them."""

    def __init__(self, target: str, dilations: Pair) -> None:
        from gossamer.kernels.cpu.isa import Isa  # TVM, which other passes do not need
        from gossamer.kernels.targets import find_target

        found = find_target(target)
        self._isa: Isa = Isa(found, next(iter(found.variants)))
        self._dilations = dilations

    def time(
        self, inputs: int, outputs: int, kernel: Pair, strides: Pair, before: Pair, after: Pair
    ) -> float:
        """Of a convolution from `inputs` to `outputs` channels."""
        from gossamer.kernels.cpu.pixel_tile import best_pixel_tile, tile_time
        from gossamer.kernels.cpu.window import Window
        from gossamer.kernels.lowering.winograd import plan_winograd

        window = Window(before, after, kernel, strides, self._dilations)
        tile = best_pixel_tile(self._isa, outputs, window.pixels)
        direct = inputs * window.taps * tile_time(self._isa, outputs, window.pixels, tile)
        plan = plan_winograd(self._isa, window, inputs, outputs, 1)
        return direct * plan.time if plan is not None else direct

    def moving(self, channels: int, plane: Pair) -> float:
        """Of storing and loading planes that the dense layer does not have."""
        return 2.0 * channels * -(-plane[0] * plane[1] // self._isa.lanes)
