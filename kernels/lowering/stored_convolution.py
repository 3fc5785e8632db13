"""Convolutions whose weight stays as a format stores it: blocks of output channels are decoded when used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..cpu.convolution import Convolution
from ..cpu.lazy import Leaf
from ..cpu.planes import PlaneLayout
from ..cpu.winograd import Winograd, tile_window
from .choice import Choice, choose_rows
from .convolving import Layer, padded_planes, planes_of
from .encoded.panels import StoredWeight, positions, store_strips
from .state import Encoded, Lowering
from .stored_layers import block_strips, pays, scaled, stored_pixel_tile
from .ways import Way
from .winograd import Plan, plan_winograd

__all__ = ["stored_convolution"]


def stored_convolution(state: Lowering, layer: Layer, encoded: Encoded | None) -> Way | None:
    """By Winograd's transforms or directly, as a dense weight; None where another kernel is faster."""
    if encoded is None:
        return None
    isa, window, groups = state.isa, layer.window, layer.groups
    outputs = len(layer.weights) // groups
    plan = plan_winograd(isa, window, layer.source.shape[1], len(layer.weights), groups)
    matrix = layer.weights.reshape(len(layer.weights), -1) if groups == 1 else None
    if choose_rows(isa, matrix, plan.time if plan else 1.0).rows:
        return None
    tile = plan.tile if plan else stored_pixel_tile(isa, outputs, window.pixels)
    places = positions(encoded, layer.weights.shape).reshape(groups, outputs, -1)
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
    choice = stored.noted(Choice("gemm", 0, "", "decoded by blocks, which all pixels use"))
    return Way(choice.with_tile(tile), lambda state: _direct(state, layer, tile, stored))


def _scaled(state: Lowering, layer: Layer, stored: StoredWeight) -> Layer:
    """The layer with the weight's scales in its epilogue, before the bias."""
    if stored.scale is None:
        return layer
    shape, strides = (1, len(layer.weights), 1, 1), (len(layer.weights), 1, 1, 1)
    factors = state.pool.add(f"{layer.node.name}.scale", np.ascontiguousarray(stored.scale, np.float32))
    bias = None if layer.bias is None else Leaf(layer.bias.view(shape, strides))
    tree = scaled(layer.epilogue, Leaf(factors.view(shape, strides)), bias)
    return replace(layer, bias=None, epilogue=tree)


def _direct(state: Lowering, layer: Layer, tile: tuple[int, int], stored: StoredWeight) -> None:
    layout, source = planes_of(state, layer.node, layer.source, layer.window)
    channels = layer.weights.shape[1] * layer.groups
    state.steps.append(
        Convolution(
            *(source, stored.strips.tensors, layer.bias, layer.out, layer.window, layer.groups, channels),
            *(tile, layer.epilogue, layout),
            stored=stored.strips,
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
