"""Convolutions whose weight stays as a format stores it: blocks of output channels are decoded when used."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..cpu.lazy import Leaf
from ..cpu.pixel_tile import best_pixel_tile
from ..cpu.planes import PlaneLayout
from ..cpu.stored_blocks import StoredDense
from ..cpu.stored_convolution import StoredConvolution
from ..cpu.winograd import Winograd, tile_window
from .choice import Choice, choose_rows
from .convolving import Layer, padded_planes, planes_of
from .encoded.panels import StoredWeight, positions, store_strips
from .state import Encoded, Lowering
from .stored_layers import PlaneWeight, block_strips, pays, scaled, stored_pixel_tile
from .stored_sparse import store_sparse
from .ways import Way
from .winograd import Plan, plan_winograd

__all__ = ["stored_convolution"]

Array = np.ndarray[Any, np.dtype[Any]]


def stored_convolution(state: Lowering, layer: Layer, encoded: Encoded | None) -> Way | None:
    """By Winograd's transforms or directly, as a dense weight; None where another kernel is faster."""
    if encoded is None:
        return None
    isa, window, groups = state.isa, layer.window, layer.groups
    outputs = len(layer.weights) // groups
    plan = plan_winograd(isa, window, layer.source.shape[1], len(layer.weights), groups)
    places = positions(encoded, layer.weights.shape).reshape(groups, outputs, -1)
    if groups == 1:
        matrix, limit = layer.weights.reshape(outputs, -1), plan.time if plan else 1.0
        if choose_rows(isa, matrix, limit).rows:
            return _sparse(state, layer, encoded, matrix, places[0], limit)
    tile = plan.tile if plan else stored_pixel_tile(isa, outputs, window.pixels)
    stored = store_strips(
        state, f"{layer.node.name}.weight", encoded, block_strips(places, tile[0], isa.lanes)
    )
    if stored is None or not pays(stored, layer.weights):
        return None
    layer = _scaled(state, layer, stored)
    if plan:
        reason = f"F({plan.outputs}x{plan.outputs}, 3x3): estimated {plan.time:.2f} of the direct sum's time"
        choice = stored.noted(Choice("winograd", 0, "", f"decoded by blocks; {reason}"))
        return Way(choice.with_tile(tile), lambda state: _winograd(state, layer, plan, stored))
    choice = stored.noted(Choice("gemm", 0, "", "decoded by blocks, which all pixels use")).with_tile(tile)
    blocks = StoredDense(stored.strips, tile[0], layer.weights[0].size)
    weight = PlaneWeight(blocks, stored.strips.tensors, tile, choice, stored)
    return Way(choice, lambda state: _direct(state, layer, weight))


def _sparse(
    state: Lowering, layer: Layer, encoded: Encoded, matrix: Array, places: Array, limit: float
) -> Way | None:
    """Surviving blocks, decoded a few rows of blocks at a time; None where the format cannot store them."""
    store = store_sparse(state, f"{layer.node.name}.weight", encoded, matrix, places, limit)
    if store is None or not pays(store.stored, layer.weights):
        return None
    weight = store.weight(best_pixel_tile(state.isa, len(matrix), layer.window.pixels, store.choice.rows))
    return Way(weight.choice, lambda state: _direct(state, layer, weight))


def _scaled(state: Lowering, layer: Layer, stored: StoredWeight) -> Layer:
    """The layer with the weight's scales in its epilogue, before the bias."""
    if stored.scale is None:
        return layer
    shape, strides = (1, len(layer.weights), 1, 1), (len(layer.weights), 1, 1, 1)
    factors = state.pool.add(f"{layer.node.name}.scale", np.ascontiguousarray(stored.scale, np.float32))
    bias = None if layer.bias is None else Leaf(layer.bias.view(shape, strides))
    tree = scaled(layer.epilogue, Leaf(factors.view(shape, strides)), bias)
    return replace(layer, bias=None, epilogue=tree)


def _direct(state: Lowering, layer: Layer, weight: PlaneWeight) -> None:
    layout, source = planes_of(state, layer.node, layer.source, layer.window)
    channels = layer.weights.shape[1] * layer.groups
    state.steps.append(
        StoredConvolution(
            *(source, weight.tensors, layer.bias, layer.out, layer.window, layer.groups, channels),
            *(weight.tile, layer.epilogue, layout, weight.choice.rows),
            stored=weight.blocks,
        )
    )


def _winograd(state: Lowering, layer: Layer, plan: Plan, stored: StoredWeight) -> None:
    window, channels, step = layer.window, layer.source.shape[1], stored.strips.inputs_of_step
    layout: PlaneLayout
    layout, planes = padded_planes(state, layer.node, layer.source, tile_window(window, plan.outputs))
    # a part of the channels begins at a step
    chunk = channels if plan.chunk >= channels else max(step, plan.chunk // step * step)
    state.steps.append(
        Winograd(
            *(planes, None, layer.bias, layer.out, window, channels, plan.tile, layer.epilogue, layout),
            *(plan.outputs, plan.block_tiles, chunk, stored.strips),
        )
    )
