"""Conv: depthwise, dense or block-sparse matrix kernels, chosen by shape and by the weight's zeros."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from gossamer.runtime.errors import UnsupportedError

from ...cpu.convolution import Convolution
from ...cpu.depthwise import Depthwise
from ...cpu.epilogue import Accumulator
from ...cpu.lazy import Lazy, Leaf
from ...cpu.pixel_tile import best_pixel_tile, good_pixel_tiles
from ...cpu.planes import PadPlanes, PlaneLayout
from ...cpu.sweep import readable
from ...cpu.tensor import Tensor
from ...cpu.window import Window
from ...cpu.winograd import Winograd, tile_window
from ..attributes import describe, integer, require_equal
from ..choice import Choice, choose_rows, sparse_choices
from ..fusion import Epilogue, grow_epilogue
from ..packing import pack_rows, sparse_rows
from ..registry import lowers
from ..report import report_layer
from ..single_pixel import single_pixel
from ..state import Lowering, filled_shape
from ..ways import TRIED, Way, choose_way
from ..windows import window_of
from ..winograd import WORTH, Plan, pack_taps, plan_winograd, winograd_plans

_TRIED_PLANS = 3  # of Winograd's, where a tuner measures
_TRIED_SPARSE = 1.3  # of the dense time by the estimate: kernels that may be faster when measured


@lowers("Conv")
def lower_convolution(state: Lowering, node: ir.Node) -> None:
    """Two-dimensional (or one-dimensional, as height 1) float32 convolution with constant weights."""
    weights = state.constant(node.inputs[1])
    if weights is None or weights.dtype != np.float32:
        raise UnsupportedError("the weight must be a float32 constant", where=describe(node))
    shape = filled_shape(node.outputs[0], describe(node))
    if weights.ndim not in (3, 4):
        raise UnsupportedError(
            "only 1-D and 2-D convolutions", where=describe(node), got=f"{weights.ndim - 2}-D"
        )
    if weights.ndim == 3:
        _one_dimensional(state, node, weights, shape)
        return
    source = state.tensor(state.lazy(_input(node)), node.name or "conv_in")
    window = window_of(node, source.shape[2:], shape[2:], weights.shape[2:])
    _lower(state, node, source, weights, window, shape)


def _input(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value


def _one_dimensional(state: Lowering, node: ir.Node, weights: np.ndarray, shape: tuple[int, ...]) -> None:
    """(N, C, W) as (N, C, 1, W); no epilogue, since its operands have another rank."""
    source = state.dense(state.lazy(_input(node)), node.name or "conv_in")
    n, c, w = source.shape
    image = source.view((n, c, 1, w), (c * w, w, w, 1))
    window = window_of(node, (1, w), (1, shape[2]), (1, weights.shape[2]))
    flat = convolved(state, node, image, weights[:, :, None, :], window, (*shape[:2], 1, shape[2]))
    strides = (flat.strides[0], flat.strides[1], flat.strides[3])
    state.define(node.outputs[0], Leaf(flat.view(shape, strides)))


def _lower(
    state: Lowering,
    node: ir.Node,
    source: Tensor,
    weights: np.ndarray,
    window: Window,
    shape: tuple[int, ...],
) -> None:
    epilogue = grow_epilogue(state, node.outputs[0], shape, lambda t: _fits(t, shape, state.isa.lanes))
    out = single_pixel(state, node, source, weights, window, epilogue)
    out = out or convolved(state, node, source, weights, window, shape, epilogue)
    state.absorbed.update(epilogue.nodes)
    state.define(epilogue.value, Leaf(out))


def _fits(tensor: Tensor, shape: tuple[int, ...], lanes: int) -> bool:
    """Operands a tile can read: one value, one per channel, or a whole tensor with contiguous planes."""
    if tensor.size == 1:
        return True
    if tensor.shape == shape:
        whole = tensor.place != "input" or shape[3] % lanes == 0  # some kernels read row by row, all vectors
        return whole and tensor.strides[3] == 1 and tensor.strides[2] == shape[3]
    rank = len(tensor.shape)
    per_channel = rank >= 3 and tensor.shape[-2:] == (1, 1) and tensor.shape[rank - 3] == shape[1]
    return per_channel and (rank == 3 or tensor.shape[0] in (1, shape[0]))


def convolved(
    state: Lowering,
    node: ir.Node,
    source: Tensor,
    weights: np.ndarray,
    window: Window,
    shape: tuple[int, ...],
    epilogue: Epilogue | None = None,
) -> Tensor:
    """The node's groups and bias with given weights (M, C / groups, kh, kw) and window: a new tensor."""
    groups = integer(node, "group", 1)
    bias_value = node.inputs[2] if len(node.inputs) > 2 else None
    bias = None if bias_value is None else state.stored(bias_value)
    require_equal(node, "input channels", source.shape[1], weights.shape[1] * groups)
    require_equal(node, "batch sizes", source.shape[0], shape[0])
    require_equal(node, "output channels", (len(weights), 0), (shape[1], len(weights) % groups))
    if bias is not None:
        require_equal(node, "biases", (len(weights),), bias.shape)
    out = _padded_output(state, epilogue.value.name if epilogue else node.outputs[0].name, shape)
    tree = epilogue.tree if epilogue else Accumulator(shape)
    if groups == source.shape[1] and weights.shape[1] == 1:
        taps = state.pool.add(f"{node.name}.weight", weights.reshape(len(weights), -1), "depthwise")
        if not readable(source, window, state.isa.lanes):
            source = state.copy(source)
        state.steps.append(Depthwise(source, taps, bias, out, window, tree))
        report_layer(
            state, node, weights, out, Choice("depthwise", 0, "", "one input channel per output"), epilogue
        )
        return out
    matrix = weights.reshape(groups, len(weights) // groups, -1)
    layer = _Layer(node, source, weights, bias, out, window, groups, tree)
    way = _way(state, layer, matrix)
    way.lower(state)
    report_layer(state, node, weights, out, way.choice, epilogue)
    return out


@dataclass(frozen=True)
class _Layer:
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


def _way(state: Lowering, layer: _Layer, matrix: np.ndarray) -> Way:
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


def _winograd_way(layer: _Layer, plan: Plan) -> Way:
    name = f"F({plan.outputs}x{plan.outputs}, 3x3)"
    reason = f"{name}: estimated {plan.time:.2f} of the direct sum's time"
    choice = Choice("winograd", 0, "", reason).with_tile(plan.tile)
    return Way(choice, lambda state: _winograd(state, layer, plan), WORTH, name)


def _direct_way(layer: _Layer, matrix: np.ndarray, choice: Choice, tile: tuple[int, int]) -> Way:
    return Way(choice.with_tile(tile), lambda state: _direct(state, layer, matrix, choice.rows, tile))


def _direct(state: Lowering, layer: _Layer, matrix: np.ndarray, rows: int, tile: tuple[int, int]) -> None:
    layout, source = _planes(state, layer.node, layer.source, layer.window)
    channels = layer.weights.shape[1] * layer.groups
    window, tree = layer.window, layer.epilogue
    kernel = Convolution(
        source, (), layer.bias, layer.out, window, layer.groups, channels, tile, tree, layout, rows
    )
    kernel.weights = pack_weights(state, layer.node, matrix, kernel)
    state.steps.append(kernel)


def _padded_output(state: Lowering, name: str | None, shape: tuple[int, ...]) -> Tensor:
    """Planes padded to whole vectors, so that tiles store whole vectors."""
    _, c, h, w = shape
    plane = -(-(h * w) // state.isa.lanes) * state.isa.lanes
    return state.new_tensor(name or "conv", "float32", shape, (c * plane, plane, w, 1))


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


def _planes(
    state: Lowering, node: ir.Node, source: Tensor, window: Window
) -> tuple[PlaneLayout | None, Tensor]:
    """Padded planes where the window needs them, else the tensor itself with contiguous planes."""
    lanes = state.isa.lanes
    if window.is_pointwise:
        flat = source.strides[3] == 1 and source.strides[2] == source.shape[3]
        if not flat or (source.place == "input" and window.pixels % lanes):
            source = state.copy(source)
        return None, source
    return _padded_planes(state, node, source, window)


def _winograd(state: Lowering, layer: _Layer, plan: Plan) -> None:
    taps = state.pool.add(
        f"{layer.node.name}.weight", pack_taps(layer.weights, plan.tile[0]), "taps of row blocks"
    )
    window, channels = layer.window, layer.source.shape[1]
    layout, planes = _padded_planes(state, layer.node, layer.source, tile_window(window, plan.outputs))
    sizes = (plan.outputs, plan.block_tiles, plan.chunk)
    state.steps.append(
        Winograd(
            planes, taps, layer.bias, layer.out, window, channels, plan.tile, layer.epilogue, layout, *sizes
        )
    )


def _padded_planes(
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
