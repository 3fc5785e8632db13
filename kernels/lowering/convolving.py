"""The ways to compute a convolution: directly, dense or sparse, or by Winograd's transforms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from ..cpu.convolution import Convolution
from ..cpu.lazy import Lazy, Leaf
from ..cpu.pixel_tile import best_pixel_tile, good_pixel_tiles
from ..cpu.planes import PadPlanes, PlaneLayout
from ..cpu.tensor import Tensor
from ..cpu.window import Window
from ..cpu.winograd import Winograd, tile_window
from .choice import Choice, choose_rows, sparse_choices
from .packing import pack_rows, sparse_rows
from .state import Lowering
from .ways import TRIED, Way, choose_way
from .winograd import WORTH, Plan, pack_taps, plan_winograd, winograd_plans

__all__ = ["Layer", "convolution_way", "pack_weights", "padded_planes", "planes_of"]

_TRIED_PLANS = 3  # of Winograd's, where a tuner measures
_TRIED_SPARSE = 1.3  # of the dense time by the estimate: kernels that may be faster when measured


@dataclass(frozen=True)
class Layer:
    """What every way to compute a convolution starts from."""

    node: ir.Node
    source: Tensor
    weights: np.ndarray
    bias: Tensor | None
    out: Tensor
    window: Window
    groups: int
    epilogue: Lazy

    @property
    def signature(self) -> tuple[Any, ...]:
        """What its time depends on."""
        tensors = (Leaf(self.source).key, self.source.place, Leaf(self.out).key)
        return ("Conv", *tensors, self.window, self.groups, self.bias is not None, self.epilogue.key)

    def __str__(self) -> str:
        kernel, size = "x".join(map(str, self.window.kernel)), "x".join(map(str, self.source.shape))
        return f"{kernel} convolution of {size} to {len(self.weights)}"


def convolution_way(state: Lowering, layer: Layer, matrix: np.ndarray) -> Way:
    """By the estimate, or the fastest that was measured."""
    isa, window, groups = state.isa, layer.window, layer.groups
    sizes = (layer.source.shape[1], len(layer.weights), groups)
    plan = plan_winograd(isa, window, *sizes)
    flat = matrix.reshape(len(layer.weights), -1) if groups == 1 else None
    choice = choose_rows(isa, flat, plan.time if plan else 1.0)
    if plan and not choice.rows:
        first = _winograd_way(layer, plan)
    else:
        tile = best_pixel_tile(isa, matrix.shape[1], window.pixels, choice.rows)
        first = _direct_way(layer, matrix, choice, tile)

    def others() -> Iterator[Way]:
        dense = choice if not choice.rows else Choice("gemm", 0, "", "")
        sparse = sparse_choices(isa, flat, _TRIED_SPARSE)[:2] if flat is not None else []
        for plan in winograd_plans(isa, window, *sizes)[:_TRIED_PLANS]:
            yield _winograd_way(layer, plan)
        for kind in (dense, *sparse):
            count = TRIED if kind.rows == choice.rows else 2
            for tile in good_pixel_tiles(isa, matrix.shape[1], window.pixels, kind.rows, count):
                yield _direct_way(layer, matrix, kind, tile)

    return choose_way(state, str(layer), layer.signature, first, others)


def _winograd_way(layer: Layer, plan: Plan) -> Way:
    name = f"F({plan.outputs}x{plan.outputs}, 3x3)"
    reason = f"{name}: estimated {plan.time:.2f} of the direct sum's time"
    choice = Choice("winograd", 0, "", reason).with_tile(plan.tile)
    return Way(choice, lambda state: _winograd(state, layer, plan), WORTH, name)


def _direct_way(layer: Layer, matrix: np.ndarray, choice: Choice, tile: tuple[int, int]) -> Way:
    return Way(choice.with_tile(tile), lambda state: _direct(state, layer, matrix, choice.rows, tile))


def _direct(state: Lowering, layer: Layer, matrix: np.ndarray, rows: int, tile: tuple[int, int]) -> None:
    layout, source = planes_of(state, layer.node, layer.source, layer.window)
    channels = layer.weights.shape[1] * layer.groups
    window, tree = layer.window, layer.epilogue
    kernel = Convolution(
        source, (), layer.bias, layer.out, window, layer.groups, channels, tile, tree, layout, rows
    )
    kernel.weights = pack_weights(state, layer.node, matrix, kernel)
    state.steps.append(kernel)


def pack_weights(
    state: Lowering, node: ir.Node, matrix: np.ndarray, kernel: Convolution
) -> tuple[Tensor, ...]:
    """Weights (groups, M / groups, K) as `kernel` reads them."""
    name, rows = f"{node.name}.weight", kernel.block_rows
    if not rows:
        packed = np.concatenate([pack_rows(group, kernel.tile[0]) for group in matrix])
        return (state.pool.add(name, packed, f"panels of {kernel.tile[0]} rows"),)
    sparse = sparse_rows(matrix.reshape(-1, matrix.shape[2]), rows)
    packing = f"block-sparse {rows}x1"
    offsets = sparse.columns * kernel.column_stride(state.isa)
    return (
        state.pool.add(name, sparse.values, packing),
        state.pool.add(f"{name}.offsets", offsets.astype(np.int32), packing),
        state.pool.add(f"{name}.starts", sparse.starts, packing),
    )


def planes_of(
    state: Lowering, node: ir.Node, source: Tensor, window: Window
) -> tuple[PlaneLayout | None, Tensor]:
    """Padded planes where the window needs them, else the tensor itself with contiguous planes."""
    lanes = state.isa.lanes
    if window.is_pointwise:
        flat = source.strides[3] == 1 and source.strides[2] == source.shape[3]
        if not flat or (source.place == "input" and window.pixels % lanes):
            source = state.copy(source)
        return None, source
    return padded_planes(state, node, source, window)


def _winograd(state: Lowering, layer: Layer, plan: Plan) -> None:
    taps = state.pool.add(
        f"{layer.node.name}.weight", pack_taps(layer.weights, plan.tile[0]), "taps of row blocks"
    )
    window, channels = layer.window, layer.source.shape[1]
    layout, planes = padded_planes(state, layer.node, layer.source, tile_window(window, plan.outputs))
    sizes = (plan.outputs, plan.block_tiles, plan.chunk)
    state.steps.append(
        Winograd(
            planes, taps, layer.bias, layer.out, window, channels, plan.tile, layer.epilogue, layout, *sizes
        )
    )


def padded_planes(
    state: Lowering, node: ir.Node, source: Tensor, window: Window
) -> tuple[PlaneLayout, Tensor]:
    lanes = state.isa.lanes
    layout = PlaneLayout.of(window, lanes)
    planes = source.shape[0] * source.shape[1]
    size = planes * layout.size + layout.slack(lanes)
    whole = state.new_tensor(f"{node.name}.planes", "float32", (size,))
    padded = whole.view((planes, layout.size), (layout.size, 1))
    state.steps.append(PadPlanes(source, padded, layout))
    return layout, padded
