"""Axes and sizes that ONNX's own inference does not compare with an operator's inputs."""

from __future__ import annotations

import onnx_ir as ir

from gossamer.runtime.errors import ModelError

from .attributes import describe

__all__ = ["check_operands"]

_PER_CHANNEL: dict[str, tuple[tuple[int, ...], int, int]] = {
    "InstanceNormalization": ((1, 2), 0, 1),
    "GroupNormalization": ((1, 2), 0, 1),
    "BatchNormalization": ((1, 2, 3, 4), 0, 1),
    "Conv": ((2,), 1, 0),
}
"""Of an operator: inputs that hold a number for each channel, and the input and axis that count channels."""


_ONE_AXIS = frozenset(
    {"Softmax", "LogSoftmax", "Hardmax", "ArgMax", "ArgMin", "TopK", "Gather", "GatherElements", "Split"}
    | {"ScatterElements", "Concat", "Compress", "LpNormalization", "LayerNormalization"}
)
"""Operators whose attribute `axis` names an axis of their first input."""


def check_operands(node: ir.Node) -> None:
    """Raises ModelError for an axis that is none, and an input without one number for each channel."""
    if node.domain not in ("", "ai.onnx"):
        return
    if node.op_type in _ONE_AXIS:
        _check_axis(node)
    if node.op_type in _PER_CHANNEL:
        _check_channels(node)


def _check_axis(node: ir.Node) -> None:
    attribute, shape = node.attributes.get("axis"), _shape(node, 0)
    if attribute is None or shape is None or attribute.type != ir.AttributeType.INT:
        return
    rank, axis = len(shape), attribute.as_int()
    if not -rank <= axis < rank:
        raise ModelError(
            "the axis is out of range", where=describe(node), expected=f"{-rank}..{rank - 1}", got=axis
        )


def _check_channels(node: ir.Node) -> None:
    operands, counted, axis = _PER_CHANNEL[node.op_type]
    whole = _shape(node, counted)
    if whole is None or len(whole) <= axis or not isinstance(whole[axis], int):
        return
    for index in operands:
        shape = _shape(node, index)
        if shape is not None and (len(shape) != 1 or (isinstance(shape[0], int) and shape[0] != whole[axis])):
            raise ModelError(
                f"input {index} does not fit the channels",
                where=describe(node),
                expected=f"[{whole[axis]}]",
                got=[d if isinstance(d, int) else str(d) for d in shape],
            )


def _shape(node: ir.Node, index: int) -> ir.Shape | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return None
    return value.const_value.shape if value.const_value is not None else value.shape  # type: ignore[return-value]
