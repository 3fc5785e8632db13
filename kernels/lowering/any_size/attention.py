"""Attention of symbolic sizes: MatMul, scale, mask, Softmax, MatMul as one kernel.

The nodes between the products wait for the second one: only there all operands are known, and with them
whether one kernel takes them. Where it does not, they are lowered then, one after another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from ...cpu.any_attention import AnyAttention
from ...cpu.lazy import Lazy, Leaf
from ...cpu.tensor import Tensor
from ..attributes import integers
from ..operators.attention import constant_number, mask_tensor, only_reader, scores_of, turned_keys
from ..registry import rule_for
from ..state import Lowering
from .base import is_any_size

__all__ = ["begins_attention", "ends_attention"]


@dataclass
class _Found:
    """The nodes of one attention, from the product of queries and keys to that with the values."""

    scores: ir.Node
    scale: float
    mask: ir.Value | None
    inner: list[ir.Node]  # between the products, Softmax last
    mix: ir.Node


def begins_attention(state: Lowering, node: ir.Node) -> bool:
    """Whether the MatMul `node` and what follows wait for the product with the values."""
    found = _from_scores(state, node)
    if found is None:
        return False
    state.absorbed.update(found.inner)
    return True


def ends_attention(state: Lowering, node: ir.Node, product: Callable[[Lowering, ir.Node], None]) -> bool:
    """Lowers a waiting attention at its last node; True where that computes `node`.

    `product` lowers the product of queries and keys where it is no kernel with the rest.
    """
    left = node.inputs[0]
    softmax = left.producer() if left is not None and left not in state.values else None
    if softmax is None or softmax.op_type != "Softmax" or softmax not in state.absorbed:
        return False
    scores = scores_of(softmax)
    found = _from_scores(state, scores) if scores is not None and is_any_size(state, scores) else None
    if found is None or found.mix is not node:
        return False
    if _emit(state, found):
        return True
    state.absorbed.difference_update(found.inner)
    product(state, found.scores)
    for part in found.inner:
        rule = rule_for(part.op_type)
        if part not in state.absorbed and rule is not None:
            rule(state, part)
    return False


def _from_scores(state: Lowering, node: ir.Node) -> _Found | None:
    """The attention that begins with `node`, by the operators behind it."""
    operands = [state.values.get(v) for v in node.inputs if v is not None]
    if node.op_type != "MatMul" or len(operands) != 2 or not all(_is_heads(o) for o in operands):
        return None
    scale, mask, inner = 1.0, None, list[ir.Node]()
    value = node.outputs[0]
    while (reader := only_reader(value)) is not None and reader.graph is node.graph:
        others = [v for v in reader.inputs if v is not None and v is not value]
        number = constant_number(state, others[0]) if len(others) == 1 else None
        inner.append(reader)
        if reader.op_type == "Softmax":
            mix = _mix(reader)
            return None if mix is None else _Found(node, scale, mask, inner, mix)
        if reader.op_type == "Mul" and number is not None and mask is None:
            scale *= number
        elif reader.op_type == "Div" and number and reader.inputs[0] is value and mask is None:
            scale /= number
        elif reader.op_type == "Add" and mask is None and len(others) == 1:
            mask = others[0]
        else:
            return None
        value = reader.outputs[0]
    return None


def _is_heads(value: Lazy | None) -> bool:
    return value is not None and len(value.shape) == 4 and value.dtype == "float32"


def _mix(softmax: ir.Node) -> ir.Node | None:
    """The product that reads `softmax` on its left."""
    mix = only_reader(softmax.outputs[0])
    last = softmax.attributes.get_int("axis", -1) in (-1, 3)
    fits = mix is not None and mix.op_type == "MatMul" and not mix.domain and mix.graph is softmax.graph
    return mix if last and fits and mix is not None and mix.inputs[0] is softmax.outputs[0] else None


def _emit(state: Lowering, found: _Found) -> bool:
    """Appends the kernel, if it takes the operands."""
    query, turned = (_view(state, v) for v in found.scores.inputs if v is not None)
    operand = found.mix.inputs[1]
    assert operand is not None
    value = _view(state, operand)
    if not _is_heads(value) or not query.shape[:2] == turned.shape[:2] == value.shape[:2]:
        return False
    if turned.shape[3] != value.shape[2] or turned.shape[2] != query.shape[3]:
        return False
    scores = (*query.shape[:3], turned.shape[3])
    if found.mask is not None and not _broadcasts(state.lazy(found.mask), scores):
        return False
    mask = None if found.mask is None else mask_tensor(state, found.mask)
    tensors = _rows(state, query), turned_keys(_keys(state, turned)), _rows(state, value)
    out, result, whole = _result(state, found.mix, (*query.shape[:3], value.shape[3]))
    state.steps.append(AnyAttention(*tensors, mask, out, found.scale))
    state.define(result, Leaf(whole))
    return True


def _view(state: Lowering, value: ir.Value) -> Lazy:
    """The value; where it is the transpose of a tensor in memory, that tensor with its axes in this order."""
    node = value.producer()
    source = state.values.get(node.inputs[0]) if node is not None and node.inputs[0] is not None else None
    if node is None or node.op_type != "Transpose" or not isinstance(source, Leaf):
        return state.lazy(value)
    perm = integers(node, "perm", tuple(reversed(range(len(source.shape)))))
    tensor = source.tensor
    return Leaf(tensor.view(tuple(tensor.shape[p] for p in perm), tuple(tensor.strides[p] for p in perm)))


def _broadcasts(mask: Lazy, scores: tuple[int, ...]) -> bool:
    pairs = zip(reversed(mask.shape), reversed(scores), strict=False)
    return len(mask.shape) <= 4 and mask.dtype == "float32" and all(m in (1, n) for m, n in pairs)


def _rows(state: Lowering, value: Lazy) -> Tensor:
    """In memory with the width side by side, where vectors may be read past the last."""
    tensor = state.tensor(value)
    whole = tensor.strides[3] == 1 and tensor.root.place in ("arena", "weight")
    return tensor if whole else state.copy(tensor)


def _keys(state: Lowering, value: Lazy) -> Tensor:
    """Turned keys (N, heads, width, keys) in memory, with either axis side by side."""
    tensor = state.tensor(value)
    whole = 1 in tensor.strides[2:] and tensor.root.place in ("arena", "weight")
    return tensor if whole else state.copy(tensor)


def _result(state: Lowering, mix: ir.Node, shape: tuple[int, ...]) -> tuple[Tensor, ir.Value, Tensor]:
    """(what the kernel writes, the value that it is, that value's tensor).

    The heads of a query lie side by side where they are put there next.
    """
    n, heads, queries, width = shape
    reader = only_reader(mix.outputs[0])
    swaps = reader is not None and reader.op_type == "Transpose"
    if reader is None or not swaps or integers(reader, "perm", (3, 2, 1, 0)) != (0, 2, 1, 3):
        out = state.new_tensor(mix.name or "attention", "float32", shape)
        return out, mix.outputs[0], out
    state.absorbed.add(reader)
    whole = state.new_tensor(mix.name or "attention", "float32", (n, queries, heads, width))
    s0, s1, s2, s3 = whole.strides
    return whole.view(shape, (s0, s2, s1, s3)), reader.outputs[0], whole
