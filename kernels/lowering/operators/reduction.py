"""Reductions, softmax, normalisations and global pooling."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir
from tvm import tirx as tir

from gossamer.runtime.errors import UnsupportedError

from ...cpu.layer_norm import LayerNorm
from ...cpu.lazy import Elementwise, Fill, Lazy, Leaf, Moved
from ...cpu.reduction import Reduction
from ...cpu.size_value import SizeValue
from ...cpu.softmax import Softmax
from ...cpu.tensor import Tensor
from ...cpu.transposing import is_feature_major
from ...dims import Size, is_fixed
from ..attributes import describe, flag, integer, integers, number
from ..feature_major import new_feature_major
from ..integer_mean import integer_mean
from ..registry import lowers
from ..state import Lowering
from ..variants import is_float32, is_wide, uses_more_outputs
from .movement import constant_input, reshaped, source_of

# how each operator is a fold with something before and after
_FOLDS = {
    "ReduceSum": ("sum", None, None),
    "ReduceMean": ("sum", None, "mean"),
    "ReduceMax": ("max", None, None),
    "ReduceMin": ("min", None, None),
    "ReduceProd": ("prod", None, None),
    "ReduceL1": ("sum", "Abs", None),
    "ReduceL2": ("sum", "square", "Sqrt"),
    "ReduceSumSquare": ("sum", "square", None),
    "ReduceLogSum": ("sum", None, "Log"),
    "ReduceLogSumExp": ("sum", "Exp", "Log"),
}


@lowers(*_FOLDS)
def lower_reduce(state: Lowering, node: ir.Node) -> None:
    """Axes by input (opset 18, 13 for ReduceSum) or attribute; none given means all."""
    source = source_of(state, node)
    axes = list(integers(node, "axes", ()))
    given = constant_input(state, node, 1, "the axes")
    if given is not None:
        axes = given.tolist()
    if not axes and flag(node, "noop_with_empty_axes"):
        state.define(node.outputs[0], source)
        return
    rank = len(source.shape)
    chosen = tuple(sorted({a % rank for a in axes})) if axes else tuple(range(rank))
    result = None
    if node.op_type in ("ReduceMean", "ReduceSum"):
        result = integer_mean(state, node, chosen, mean=node.op_type == "ReduceMean")
    result = result or reduced(state, source, chosen, node.op_type)
    state.define(node.outputs[0], reshaped(state, result, _kept(node, source, chosen)))


def _kept(node: ir.Node, source: Lazy, axes: tuple[int, ...]) -> tuple[Size, ...]:
    """The shape of a reduction."""
    if flag(node, "keepdims", default=True):
        return tuple(1 if a in axes else n for a, n in enumerate(source.shape))
    return tuple(n for a, n in enumerate(source.shape) if a not in axes)


def reduced(state: Lowering, source: Lazy, axes: tuple[int, ...], operator: str) -> Lazy:
    """The reduction with reduced axes kept at extent 1."""
    if operator == "ReduceLogSumExp" and source.dtype == "float32":
        return _log_sum_exp(state, source, axes)
    fold, before, after = _FOLDS[operator]
    count = prod(source.shape[a] for a in axes)
    if before == "square":
        source = Leaf(state.tensor(source))
        source = state.elementwise("Mul", [source, source], source.dtype)
    elif before:
        source = state.elementwise(before, [source], source.dtype)
    shape = tuple(1 if a in axes else n for a, n in enumerate(source.shape))
    out = state.new_tensor("reduced", source.dtype, shape)
    state.steps.append(Reduction(source, axes, fold, out))
    result: Lazy = Leaf(out)
    if after == "mean":
        if not is_fixed(count):
            return state.elementwise("Div", [result, SizeValue(count, source.dtype)], source.dtype)
        if source.dtype.startswith("float"):
            return state.elementwise("Mul", [result, Fill(1.0 / count, source.dtype)], source.dtype)
        return state.elementwise("Div", [result, Fill(count, source.dtype)], source.dtype)
    return result if after is None else state.elementwise(after, [result], source.dtype)


def _log_sum_exp(state: Lowering, source: Lazy, axes: tuple[int, ...]) -> Lazy:
    """m + ln Σ e^(x - m) with m = max x, so that nothing overflows; an infinite m is left out."""
    source = Leaf(state.tensor(source))
    peak = Leaf(state.tensor(reduced(state, source, axes, "ReduceMax")))
    infinite = state.elementwise("IsInf", [peak], "bool")
    finite = Leaf(state.tensor(state.elementwise("Where", [infinite, Fill(0.0, "float32"), peak], "float32")))
    powers = state.elementwise("Exp", [state.elementwise("Sub", [source, finite], "float32")], "float32")
    total = state.elementwise("Log", [reduced(state, powers, axes, "ReduceSum")], "float32")
    return state.elementwise("Add", [total, finite], "float32")


@lowers("GlobalAveragePool", "GlobalMaxPool")
def lower_global_pool(state: Lowering, node: ir.Node) -> None:
    """One value for each plane."""
    source = source_of(state, node)
    axes = tuple(range(2, len(source.shape)))
    result = None
    if node.op_type == "GlobalAveragePool":
        result = integer_mean(state, node, axes, mean=True)
    operator = "ReduceMean" if node.op_type == "GlobalAveragePool" else "ReduceMax"
    state.define(node.outputs[0], result or reduced(state, source, axes, operator))


@lowers("Softmax", "LogSoftmax", takes=is_float32)
def lower_softmax(state: Lowering, node: ir.Node) -> None:
    """Over one axis (opset 13 and later; older models are upgraded before)."""
    source = source_of(state, node)
    _require_float32(node, source)
    axis = integer(node, "axis", -1) % len(source.shape)
    out = state.new_tensor(node.name or "softmax", "float32", source.shape)
    state.steps.append(Softmax(source, axis, node.op_type == "LogSoftmax", out))
    state.define(node.outputs[0], Leaf(out))


def _require_float32(node: ir.Node, source: Lazy) -> None:
    if source.dtype != "float32":
        raise UnsupportedError("only float32", where=describe(node), got=source.dtype)


@lowers("LayerNormalization", takes=lambda node: is_float32(node) and not uses_more_outputs(node))
def lower_layer_normalization(state: Lowering, node: ir.Node) -> None:
    """y = (x - mean) / √(variance + ε) · scale + bias over the axes from `axis` on."""
    source = state.tensor(source_of(state, node))
    _require_float32(node, Leaf(source))
    axis = integer(node, "axis", -1) % len(source.shape)
    scale = state.lazy(_required(node, 1))
    bias = state.lazy(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    epsilon = number(node, "epsilon", 1e-5)
    statistics = any(value.uses() or value.is_graph_output() for value in node.outputs[1:])
    if statistics:
        raise UnsupportedError("only the first output", where=describe(node))
    inner = source.shape[axis:]
    if any(p is not None and p.shape != inner for p in (scale, bias)) or 0 in source.shape:
        axes = tuple(range(axis, len(source.shape)))
        normal = normalised(state, Leaf(source), axes, epsilon)
        state.define(node.outputs[0], _scaled(state, normal, scale, bias))
        return
    parameters = [None if p is None else state.dense(p) for p in (scale, bias)]
    out = layer_normed(state, node, source, parameters, prod(inner), epsilon)
    state.define(node.outputs[0], Leaf(out))


def layer_normed(
    state: Lowering,
    node: ir.Node,
    source: Tensor,
    parameters: list[Tensor | None],
    length: int,
    epsilon: float,
) -> Tensor:
    """One kernel over rows of `length`, in the layout of `source`."""
    name = node.name or "layer_norm"
    rows = prod(source.shape) // length
    if is_feature_major(source) and length == source.shape[-1]:
        out = new_feature_major(state, name, source.shape)
        views = [t.view((rows, length), (1, t.strides[-1])) for t in (source, out)]
    else:
        source = state.dense(Leaf(source))
        out = state.new_tensor(name, "float32", source.shape)
        views = [t.view((rows, length), (length, 1)) for t in (source, out)]
    flat = [None if p is None else p.view((length,), (1,)) for p in parameters]
    state.steps.append(LayerNorm(views[0], flat[0], flat[1], views[1], epsilon))
    return out


def _required(node: ir.Node, position: int) -> ir.Value:
    value = node.inputs[position]
    assert value is not None
    return value


def normalised(state: Lowering, source: Leaf, axes: tuple[int, ...], epsilon: float) -> Lazy:
    """(x - mean) / √(variance + ε); mean and variance in two passes, as the definition says."""
    mean = Leaf(state.tensor(reduced(state, source, axes, "ReduceMean")))
    centred = Leaf(state.tensor(state.elementwise("Sub", [source, mean], "float32")))
    variance = reduced(state, centred, axes, "ReduceSumSquare")
    count = prod(source.shape[a] for a in axes)
    shifted = state.elementwise("Mul", [variance, _inverse(count)], "float32")
    shifted = state.elementwise("Add", [shifted, Fill(epsilon, "float32")], "float32")
    root = state.elementwise("Sqrt", [shifted], "float32")
    scale = Leaf(state.tensor(state.elementwise("Reciprocal", [root], "float32")))
    return state.elementwise("Mul", [centred, scale], "float32")


def _inverse(count: Size) -> Lazy:
    if is_fixed(count):
        return Fill(1.0 / count, "float32")
    return Elementwise("Div", (Fill(1.0, "float32"), SizeValue(count, "float32")), "float32")


def _scaled(state: Lowering, value: Lazy, scale: Lazy, bias: Lazy | None) -> Lazy:
    value = state.elementwise("Mul", [value, scale], "float32")
    return value if bias is None else state.elementwise("Add", [value, bias], "float32")


def _has_constant_statistics(node: ir.Node) -> bool:
    constant = all(value is not None and value.const_value is not None for value in node.inputs[1:])
    return constant and is_float32(node) and not flag(node, "training_mode")


@lowers("InstanceNormalization", takes=is_wide)
def lower_instance_normalization(state: Lowering, node: ir.Node) -> None:
    """Every plane normalised by itself, then scaled for each channel."""
    source = Leaf(state.tensor(source_of(state, node)))
    _require_float32(node, source)
    rank = len(source.shape)
    channel = (source.shape[1], *([1] * (rank - 2)))
    scale = reshaped(state, state.lazy(_required(node, 1)), channel)
    bias = reshaped(state, state.lazy(_required(node, 2)), channel)
    normal = normalised(state, source, tuple(range(2, rank)), number(node, "epsilon", 1e-5))
    state.define(node.outputs[0], _scaled(state, normal, scale, bias))


@lowers("BatchNormalization", takes=_has_constant_statistics)
def lower_batch_normalization(state: Lowering, node: ir.Node) -> None:
    """What folding left: y = x · (scale / √(variance + ε)) + (bias - mean · …), from constants."""
    source = source_of(state, node)
    parts = [constant_input(state, node, i, "batch norm statistics") for i in range(1, 5)]
    scale, bias, mean, variance = (p for p in parts if p is not None)
    factor = (scale / np.sqrt(variance + np.float32(number(node, "epsilon", 1e-5)))).astype(np.float32)
    shape = (len(factor), *([1] * (len(source.shape) - 2)))
    by = Leaf(state.pool.add(f"{node.name}.factor", factor.reshape(shape)))
    plus = Leaf(
        state.pool.add(f"{node.name}.shift", (bias - mean * factor).astype(np.float32).reshape(shape))
    )
    state.define(node.outputs[0], _scaled(state, source, by, plus))


@lowers("ArgMax", "ArgMin")
def lower_argument(state: Lowering, node: ir.Node) -> None:
    """Position of the first (or last) extreme: the extreme, then the least index that equals it."""
    source = Leaf(state.tensor(source_of(state, node)))
    axis = integer(node, "axis", 0) % len(source.shape)
    extreme = reduced(state, source, (axis,), "ReduceMax" if node.op_type == "ArgMax" else "ReduceMin")
    here = state.elementwise("Equal", [source, Leaf(state.tensor(extreme))], "bool")
    n = source.shape[axis]
    last = flag(node, "select_last_index")
    place = positions_along(state, n, len(source.shape) - axis - 1)
    worst = Fill(-1, "int64") if last else Fill(n, "int64") if is_fixed(n) else SizeValue(n)
    found = state.elementwise("Where", [here, place, worst], "int64")
    result = reduced(state, found, (axis,), "ReduceMax" if last else "ReduceMin")
    state.define(node.outputs[0], reshaped(state, result, _kept(node, source, (axis,))))


def positions_along(state: Lowering, n: Size, behind: int) -> Lazy:
    """0, 1, …, n - 1 (int64) along an axis with `behind` axes behind it."""
    shape = (n, *([1] * behind))
    if not is_fixed(n):
        return Moved((), shape, "int64", lambda scope, index: tir.Cast("int64", index[0]), ("positions",))
    positions = np.arange(n, dtype=np.int64).reshape(shape)
    return Leaf(state.pool.add("positions", positions)) if n > 1 else Fill(0, "int64")
