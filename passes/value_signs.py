"""Which values of a model are never negative, as its operators tell."""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["is_rectified"]

_RECTIFIERS = frozenset(["Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Exp", "Softplus", "ReduceL2"])
_POOLS = (
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "ReduceMean",
    "ReduceMax",
    "ReduceSum",
)
_MOVES = (
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Slice",
    "Split",
    "Gather",
    "Expand",
    "Pad",
)
_FOLLOWERS = frozenset([*_POOLS, *_MOVES, "Identity", "Dropout", "DepthToSpace", "SpaceToDepth"])
_JOINERS = frozenset(["Add", "Mul", "Concat", "Max"])


def is_rectified(value: ir.Value | None) -> bool:
    """Whether `value` comes from values that are not negative, as of a ReLU, by sums, products and moves."""
    waiting, seen = [value], set[ir.Value]()
    while waiting:
        current = waiting.pop()
        if current is None or current in seen:
            continue
        seen.add(current)
        node = current.producer()
        if node is None or node.domain:
            return False
        if node.op_type in _RECTIFIERS or (node.op_type == "Clip" and _clips_at_zero(node)):
            continue
        if node.op_type in _FOLLOWERS:
            waiting.append(node.inputs[0])
        elif node.op_type in _JOINERS:
            waiting.extend(node.inputs)
        else:
            return False
    return value is not None


def _clips_at_zero(node: ir.Node) -> bool:
    least = node.inputs[1] if len(node.inputs) > 1 else None
    if least is None or least.const_value is None:
        return False
    return float(least.const_value.numpy().min()) >= 0
