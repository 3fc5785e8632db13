"""Finds attention in the graph: MatMul, scale, mask, Softmax, MatMul, and the moves of heads around them."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ...cpu.attention import Attention
from ...cpu.lazy import Leaf
from ...cpu.tensor import Tensor, contiguous
from ...cpu.transposing import is_feature_major
from ..attributes import integers
from ..feature_major import new_feature_major
from ..scopes import read_elsewhere
from ..state import Lowering

__all__ = ["constant_number", "lower_attention", "mask_tensor", "only_reader", "scores_of", "turned_keys"]


@dataclass
class _Found:
    """The nodes of one attention, from the product of queries and keys to that with the values."""

    scores: ir.Node
    scale: float
    mask: ir.Value | None
    inner: list[ir.Node]  # between the products
    mix: ir.Node


def lower_attention(state: Lowering, node: ir.Node) -> bool:
    """Lowers `node` where it is a product of an attention; the first one waits for the second."""
    left = node.inputs[0]
    softmax = left.producer() if left is not None else None
    scores = scores_of(softmax) if softmax is not None and softmax in state.absorbed else None
    found = _from_scores(state, scores) if scores is not None else None
    if found is not None and found.mix is node:
        _emit(state, found)
        return True
    if (found := _from_scores(state, node)) is None:
        return False
    state.absorbed.update(found.inner)
    return True


def scores_of(softmax: ir.Node) -> ir.Node | None:
    """The product whose scores reach `softmax`."""
    node: ir.Node | None = softmax
    while node is not None and node.op_type != "MatMul":
        parents = [v.producer() for v in node.inputs if v is not None]
        found = [p for p in parents if p is not None and p.op_type in ("MatMul", "Add", "Mul", "Div")]
        node = found[0] if len(found) == 1 else _on_path(found)
    return node


def _on_path(parents: list[ir.Node]) -> ir.Node | None:
    """Of two sources of a sum the one that ends in a product of two activations."""
    return next((p for p in parents if p.op_type == "MatMul" or scores_of(p) is not None), None)


def _from_scores(state: Lowering, node: ir.Node) -> _Found | None:
    """The attention that begins with `node`, if all of it may be one kernel."""
    shape = node.outputs[0].shape
    if node.op_type != "MatMul" or shape is None or len(shape) != 4 or not shape.is_static():
        return None
    if state.constant(node.inputs[1]) is not None or node.outputs[0].dtype != ir.DataType.FLOAT:
        return None
    scale, mask, inner = 1.0, None, list[ir.Node]()
    value = node.outputs[0]
    while (reader := only_reader(value)) is not None:
        others = [v for v in reader.inputs if v is not None and v is not value]
        number = constant_number(state, others[0]) if len(others) == 1 else None
        if reader.op_type == "Softmax":
            return _with_mix(reader, _Found(node, scale, mask, [*inner, reader], node))
        if reader.op_type == "Mul" and number is not None and mask is None:
            scale *= number
        elif reader.op_type == "Div" and number and reader.inputs[0] is value and mask is None:
            scale /= number
        elif reader.op_type == "Add" and mask is None and len(others) == 1 and _is_mask(others[0], value):
            mask = others[0]
        else:
            return None
        inner.append(reader)
        value = reader.outputs[0]
    return None


def only_reader(value: ir.Value) -> ir.Node | None:
    """The node that reads a value which nothing else needs."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not read_elsewhere(value) else None


def constant_number(state: Lowering, value: ir.Value) -> float | None:
    """A constant of one element."""
    array = state.constant(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 and array.ndim <= 4 else None


def _is_mask(value: ir.Value, scores: ir.Value) -> bool:
    """Whether `value` is broadcast to the scores, and not they to it."""
    if value.shape is None or scores.shape is None or not value.shape.is_static():
        return False
    own, full = value.shape.numpy(), scores.shape.numpy()
    pairs = zip(reversed(own), reversed(full), strict=False)
    return len(own) <= 4 and value.dtype == ir.DataType.FLOAT and all(m in (1, n) for m, n in pairs)


def _with_mix(softmax: ir.Node, found: _Found) -> _Found | None:
    axis = softmax.attributes.get_int("axis", -1)
    mix = only_reader(softmax.outputs[0])
    if axis not in (-1, 3) or mix is None or mix.op_type != "MatMul" or mix.domain:
        return None
    value = mix.inputs[1]
    if mix.inputs[0] is not softmax.outputs[0] or value is None or value.shape is None:
        return None
    operands = [found.scores.inputs[0], found.scores.inputs[1], value]
    shapes = [v.shape.numpy() if v is not None and v.shape is not None else () for v in operands]
    batch = shapes[0][:2]
    if any(len(s) != 4 or s[:2] != batch for s in shapes):
        return None
    found.mix = mix
    return found


def _emit(state: Lowering, found: _Found) -> None:
    query = _heads(state, found.scores.inputs[0])
    key = turned_keys(_heads(state, found.scores.inputs[1]))
    value = _heads(state, found.mix.inputs[1])
    mask = None if found.mask is None else mask_tensor(state, found.mask)
    out, last = _result(state, found.mix, value.shape[3], value.strides[3] != 1)
    state.steps.append(Attention(query, key, value, mask, out[0], found.scale))
    state.define(last, Leaf(out[1]))


def _heads(state: Lowering, operand: ir.Value | None) -> Tensor:
    """(N, heads, sequence, width) in memory: where heads were split off and moved, the tensor before that."""
    assert operand is not None
    move = operand.producer()
    split = move.inputs[0] if move is not None and move.op_type == "Transpose" else None
    node = split.producer() if split is not None else None
    if move is None or node is None or node.op_type != "Reshape" or split is None or split.shape is None:
        return _plain(state, operand)
    source, sizes = node.inputs[0], split.shape.numpy()
    known = state.values.get(source) if source is not None else None
    if not isinstance(known, Leaf) or len(sizes) != 4 or len(known.shape) != 3 or known.dtype != "float32":
        return _plain(state, operand)
    tensor = known.tensor
    n, sequence, heads, width = sizes
    if tensor.shape != (n, sequence, heads * width) or tensor.place == "input":
        return _plain(state, operand)
    across = tensor.strides[2]
    if across != 1 and not (is_feature_major(tensor) and n == 1):
        return _plain(state, operand)
    strides = (tensor.strides[0], tensor.strides[1], width * across, across)
    perm = integers(move, "perm", (3, 2, 1, 0))
    if tuple(sorted(perm)) != (0, 1, 2, 3):
        return _plain(state, operand)
    return tensor.view(tuple(sizes[p] for p in perm), tuple(strides[p] for p in perm))


def _plain(state: Lowering, operand: ir.Value) -> Tensor:
    tensor = state.dense(state.lazy(operand))
    return state.copy(tensor) if tensor.place == "input" else tensor


def turned_keys(tensor: Tensor) -> Tensor:
    """(N, heads, width, keys) as (N, heads, keys, width)."""
    n, h, d, s = tensor.shape
    strides = tensor.strides
    return tensor.view((n, h, s, d), (strides[0], strides[1], strides[3], strides[2]))


def mask_tensor(state: Lowering, value: ir.Value) -> Tensor:
    """A mask in memory, with four axes."""
    tensor = state.dense(state.lazy(value)) if value not in state.arrays else state.stored(value)
    shape = (*[1] * (4 - len(tensor.shape)), *tensor.shape)
    return tensor.view(shape, contiguous(shape))


def _result(
    state: Lowering, mix: ir.Node, width: int, in_planes: bool
) -> tuple[tuple[Tensor, Tensor], ir.Value]:
    """(the kernel's view, the value's view) of the result, and the value that it is.

    Where heads are moved back and joined, that is written at once.
    """
    value = mix.outputs[0]
    assert value.shape is not None
    n, heads, sequence, _ = value.shape.numpy()
    move = only_reader(value)
    join = only_reader(move.outputs[0]) if move is not None and move.op_type == "Transpose" else None
    joined = join.outputs[0] if join is not None and join.op_type == "Reshape" else None
    shape = joined.shape.numpy() if joined is not None and joined.shape is not None else ()
    swaps = move is not None and integers(move, "perm", (3, 2, 1, 0)) == (0, 2, 1, 3)
    name = mix.name or "attention"
    if joined is not None and swaps and shape == (n, sequence, heads * width):
        assert move is not None
        assert join is not None
        state.absorbed.update((move, join))
        out = (new_feature_major if in_planes else _row_major)(state, name, shape)
        s0, s1, s2 = out.strides
        return (out.view((n, heads, sequence, width), (s0, width * s2, s1, s2)), out), joined
    if in_planes:
        flat = new_feature_major(state, name, (n, sequence, heads * width))
        plane = flat.strides[2]
        out = flat.view((n, heads, sequence, width), (flat.strides[0], width * plane, 1, plane))
        return (out, out), value
    out = _row_major(state, name, (n, heads, sequence, width))
    return (out, out), value


def _row_major(state: Lowering, name: str, shape: tuple[int, ...]) -> Tensor:
    return state.new_tensor(name, "float32", shape)
