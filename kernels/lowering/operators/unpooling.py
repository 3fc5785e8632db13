"""MaxUnpool: values back at the places that MaxPool took them from, zero elsewhere."""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from gossamer.runtime.errors import UnsupportedError

from ...cpu.elementwise import Elementwise
from ...cpu.lazy import Fill, Leaf
from ...cpu.scatter import Scatter
from ...dims import fixed
from ..attributes import describe, integers, require_equal
from ..registry import lowers
from ..reshaping import reshaped
from ..state import Lowering
from .movement import source_of


@lowers("MaxUnpool")
def lower_unpooling(state: Lowering, node: ir.Node) -> None:
    """Places count the elements of the whole result, row-major; those outside are moved inside."""
    values, places = source_of(state, node, 0), source_of(state, node, 1)
    require_equal(node, "shapes of values and places", values.shape, places.shape)
    count = prod(fixed(size, describe(node)) for size in values.shape)
    shape = _shape(node, values.shape)
    out = state.new_tensor(node.name or "unpooled", values.dtype, shape)
    state.steps.append(Elementwise(Fill(0, values.dtype, shape), out))
    flat = out.view((prod(shape),), (1,))
    rows = reshaped(state, places, (count, 1))
    state.steps.append(Scatter(rows, reshaped(state, values, (count,)), flat, None, "none"))
    state.define(node.outputs[0], Leaf(out))


def _shape(node: ir.Node, shape: tuple[int, ...]) -> tuple[int, ...]:
    """What MaxPool read, by the attributes."""
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        raise UnsupportedError("an output shape is not supported", where=describe(node))
    kernel = integers(node, "kernel_shape", ())
    rank = len(kernel)
    strides = integers(node, "strides", (1,) * rank)
    pads = integers(node, "pads", (0,) * (2 * rank))
    sizes = [(n - 1) * strides[a] + kernel[a] - pads[a] - pads[rank + a] for a, n in enumerate(shape[2:])]
    return (*shape[:2], *sizes)
