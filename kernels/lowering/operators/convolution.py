"""Conv: depthwise, dense or block-sparse matrix kernels, chosen by shape and by the weight's zeros."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from gossamer.runtime.errors import UnsupportedError

from ...cpu.depthwise import Depthwise
from ...cpu.epilogue import Accumulator
from ...cpu.lazy import Leaf
from ...cpu.sweep import readable
from ...cpu.tensor import Tensor
from ...cpu.window import Window
from ...dims import is_fixed
from ..any_size.convolution import any_convolution
from ..any_size.windows import convolved_shape
from ..attributes import describe, integer, require_equal
from ..choice import Choice
from ..convolving import Layer, convolution_way
from ..few_pixels import few_pixels
from ..fusion import Epilogue, grow_epilogue
from ..integer_convolution import integer_convolution
from ..plain_convolution import plain_convolution
from ..registry import lowers
from ..report import report_layer
from ..single_pixel import single_pixel
from ..state import Lowering
from ..stored_convolution import stored_convolution
from ..variants import is_wide
from ..windows import window_of
from .movement import reshaped


@lowers("Conv", takes=is_wide)
def lower_convolution(state: Lowering, node: ir.Node) -> None:
    """Two-dimensional (or one-dimensional, as height 1) float32 convolution with constant weights.

    Where its operands come from integers, it is computed in integers.
    """
    if integer_convolution(state, node):
        return
    weights = state.constant(node.inputs[1])
    sizes = state.lazy(_input(node, 1)).shape if weights is None else weights.shape
    shape = convolved_shape(state, node, sizes[2:], sizes[0])
    if weights is None:
        _by_activation(state, node, shape)
        return
    if weights.dtype != np.float32:
        raise UnsupportedError("the weight must be float32", where=describe(node), got=weights.dtype)
    if not is_fixed(*shape[1:]):
        any_convolution(state, node, state.tensor(state.lazy(_input(node)), node.name or "conv_in"), weights)
        return
    if weights.ndim not in (3, 4):
        raise UnsupportedError(
            "only 1-D and 2-D convolutions", where=describe(node), got=f"{weights.ndim - 2}-D"
        )
    if few_pixels(state, node, weights, shape):
        return
    if weights.ndim == 3:
        _one_dimensional(state, node, weights, shape)
        return
    source = state.tensor(state.lazy(_input(node)), node.name or "conv_in")
    window = window_of(node, source.shape[2:], shape[2:], weights.shape[2:])
    _lower(state, node, source, weights, window, shape)


def _input(node: ir.Node, index: int = 0) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _by_activation(state: Lowering, node: ir.Node, shape: tuple[int, ...]) -> None:
    """Weights that are known only at run time."""
    operands = [state.lazy(v) for v in node.inputs if v is not None]
    if any(operand.dtype != "float32" for operand in operands):
        raise UnsupportedError("only float32", where=describe(node), got=[o.dtype for o in operands])
    result = plain_convolution(state, node, operands[0], operands[1], shape)
    if len(operands) > 2:
        bias = reshaped(state, operands[2], (shape[1], *([1] * (len(shape) - 2))))
        result = state.elementwise("Add", [result, bias], "float32")
    state.define(node.outputs[0], result)


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
    layer = Layer(node, source, weights, bias, out, window, groups, tree)
    encoded = state.encoded.get(_input(node, 1)) if node.op_type == "Conv" else None
    way = stored_convolution(state, layer, encoded) or convolution_way(state, layer, matrix)
    way.lower(state)
    report_layer(state, node, weights, out, way.choice, epilogue)
    return out


def _padded_output(state: Lowering, name: str | None, shape: tuple[int, ...]) -> Tensor:
    """Planes padded to whole vectors, so that tiles store whole vectors."""
    _, c, h, w = shape
    plane = -(-(h * w) // state.isa.lanes) * state.isa.lanes
    return state.new_tensor(name or "conv", "float32", shape, (c * plane, plane, w, 1))
