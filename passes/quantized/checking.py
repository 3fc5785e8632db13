"""Scales and zero points that a file gives are checked before anything is computed with them.

https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html
https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from gossamer.runtime.errors import ModelError

from ..base import node_label
from ..shapes import shape_text, static_shape

__all__ = ["Linear", "check_linear", "check_quantization"]

Array = np.ndarray[Any, Any]
_SCALES = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.FLOAT8E8M0})


@dataclass(frozen=True)
class Linear:
    """What a node says of one quantised value. `integers` is their type, None where it is not known."""

    node: ir.Node
    x: ir.Value
    scale: ir.Value
    zero: ir.Value | None
    integers: ir.DataType | None
    axis: int
    block: int

    def wrong(self, what: str, expected: object, got: object) -> ModelError:
        """The error that names the node."""
        where = f"{self.node.op_type} node {node_label(self.node)!r}"
        return ModelError(what, where=where, expected=expected, got=got)


def check_quantization(model: ir.Model) -> None:
    """Raises ModelError naming the first QuantizeLinear or DequantizeLinear, in any graph, that is wrong."""
    for node in model.graph.all_nodes():
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.domain in ("", "ai.onnx"):
            _check_node(node)


def _check_node(node: ir.Node) -> None:
    x, scale, zero = (*node.inputs, None, None, None)[:3]
    if x is None or scale is None:
        where, got = f"{node.op_type} node {node_label(node)!r}", sum(v is not None for v in node.inputs)
        raise ModelError("an input is missing", where=where, expected="a value and its scale", got=got)
    if node.op_type == "DequantizeLinear":
        integers = x.dtype
    else:
        stated = node.attributes.get_int("output_dtype", 0)
        integers = ir.DataType(stated) if stated in set(ir.DataType) and stated else None
        integers = integers or (zero.dtype if zero is not None else ir.DataType.UINT8)
    axis, block = node.attributes.get_int("axis", 1), node.attributes.get_int("block_size", 0)
    check_linear(Linear(node, x, scale, zero, integers, axis, block))


def check_linear(given: Linear) -> None:
    """Raises ModelError where scale, zero point, axis and block size do not fit each other or the value."""
    _check_types(given)
    _check_shapes(given)
    _check_scale(given)
    zero = _array(given.zero)
    if given.integers == ir.DataType.INT32 and zero is not None and zero.any():
        raise given.wrong("int32 takes no zero point", 0, zero.reshape(-1)[np.flatnonzero(zero)[0]])


def _check_types(given: Linear) -> None:
    scale, zero = given.scale, given.zero
    if scale.dtype is not None and scale.dtype not in _SCALES:
        raise given.wrong("the scale has a wrong type", "a float type", scale.dtype.name)
    if zero is None or zero.dtype is None or given.integers is None:
        return
    if zero.dtype != given.integers:
        raise given.wrong("the zero point has another type", given.integers.name, zero.dtype.name)


def _check_shapes(given: Linear) -> None:
    shape, zero = static_shape(given.scale), static_shape(given.zero)
    if given.block < 0:
        raise given.wrong("the block size is negative", "0 or more", given.block)
    if shape is None:
        return
    if given.zero is not None and zero is not None and not _alike(shape, zero):
        raise given.wrong("the zero point has another shape than the scale", list(shape), list(zero))
    if given.block or shape not in ((), (1,)):
        _check_axis(given, shape)


def _alike(scale: tuple[int, ...], zero: tuple[int, ...]) -> bool:
    return scale == zero or {scale, zero} == {(), (1,)}


def _check_axis(given: Linear, shape: tuple[int, ...]) -> None:
    """One scale for each index of the axis, or for each block of it."""
    if given.x.shape is None:
        return
    rank = len(given.x.shape)
    if not -rank <= given.axis < rank:
        raise given.wrong("the axis is out of range", f"{-rank}..{rank - 1}", given.axis)
    axis = given.axis % rank
    sizes: list[Any] = list(given.x.shape)
    if given.block and isinstance(sizes[axis], int):
        sizes[axis] = -(-sizes[axis] // given.block)
    expected = sizes if given.block else [sizes[axis]]
    known = len(shape) == len(expected) and all(
        not isinstance(n, int) or n == got for n, got in zip(expected, shape, strict=True)
    )
    if not known:
        what = f"blocks of {given.block} along axis {axis}" if given.block else f"axis {axis}"
        wanted = "[" + ", ".join(str(n) if isinstance(n, int) else "?" for n in expected) + "]"
        text = f"shape {wanted} for {what} of {shape_text(given.x.shape)}"
        raise given.wrong("the scale does not fit", text, list(shape))


def _check_scale(given: Linear) -> None:
    """Finite and positive; in blocks onnxruntime's own quantiser of weights gives 0 and negative ones."""
    scale = _array(given.scale)
    if scale is None:
        return
    values = scale.astype(np.float32).reshape(-1)
    bad = ~np.isfinite(values) if given.block else ~(np.isfinite(values) & (values > 0))
    if bad.any():
        expected = "finite numbers" if given.block else "positive numbers"
        raise given.wrong("a scale is wrong", expected, values[bad][0])


def _array(value: ir.Value | None) -> Array | None:
    """The array of an initializer or of a Constant node."""
    if value is None or value.is_graph_input():
        return None
    if value.const_value is not None:
        return value.const_value.numpy()
    node = value.producer()
    if node is None or node.op_type != "Constant" or "value" not in node.attributes:
        return None
    return node.attributes["value"].as_tensor().numpy()
