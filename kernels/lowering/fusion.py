"""Grows the epilogue of a convolution or matrix product over the elementwise nodes behind it.

Where the kernel is of integers, also over QuantizeLinear and DequantizeLinear: results are stored as
integers, and operands that lie in memory as the result does are read as integers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ..cpu.elementwise import Elementwise as Computed
from ..cpu.epilogue import Accumulator
from ..cpu.lazy import Elementwise, Fill, Lazy, Leaf, composed
from ..cpu.pixel_layout import pixel_strides
from ..cpu.tensor import Tensor
from ..quantization import integer_range
from .elementwise import describe_elementwise, is_elementwise
from .pixel_major import pixel_major
from .quantized import Quantized, quantized_of
from .state import Lowering

__all__ = ["Epilogue", "grow_epilogue"]

_VECTOR = 16  # elements in the longest vector that a tile reads of an operand


@dataclass
class Epilogue:
    """`tree` computes `value` from the accumulator; `nodes` are the graph nodes it replaces.

    `operands` are dequantised values that it reads as integers.
    """

    tree: Lazy
    value: ir.Value
    nodes: list[ir.Node] = field(default_factory=list)
    operands: list[Quantized] = field(default_factory=list)


def grow_epilogue(
    state: Lowering,
    value: ir.Value,
    shape: tuple[int, ...],
    fits: Callable[[Tensor], bool],
    strides: tuple[int, ...] | None = None,
) -> Epilogue:
    """The longest chain of elementwise consumers with a single result.

    `fits(tensor)` says whether an operand in memory can be read tile by tile. A kernel of integers gives the
    `strides` of its result: what lies so may be read as integers.
    """
    producer = value.producer()
    graph = None if producer is None else producer.graph
    growth = _Growth(state, graph, shape, fits, strides, {value: Accumulator(shape)})
    nodes = growth.nodes
    best = Epilogue(growth.trees[value], value)
    while (found := growth.next_node()) is not None:
        node, tree = found
        growth.trees[node.outputs[0]] = tree
        nodes.append(node)
        escaping = [v for v in growth.trees if _escapes(v, nodes)]
        # integers are stored as they are: who needs them as floats reads them so
        if len(escaping) == 1 and node.op_type != "DequantizeLinear":
            tree = growth.trees[escaping[0]]
            best = Epilogue(tree, escaping[0], list(nodes), list(growth.operands))
    return best


def _escapes(value: ir.Value, nodes: list[ir.Node]) -> bool:
    """Whether anything outside `nodes` needs the value."""
    return value.is_graph_output() or any(use.node not in nodes for use in value.uses())


@dataclass
class _Growth:
    """What the search has reached: `trees` of values, computed by `nodes`."""

    state: Lowering
    graph: object  # that everything must stand in
    shape: tuple[int, ...]
    fits: Callable[[Tensor], bool]
    strides: tuple[int, ...] | None
    trees: dict[ir.Value, Lazy]
    nodes: list[ir.Node] = field(default_factory=list)
    operands: list[Quantized] = field(default_factory=list)

    def next_node(self) -> tuple[ir.Node, Lazy] | None:
        for value in list(self.trees):
            if value.is_graph_output():
                continue
            for use in value.uses():
                node = use.node
                inside = node.graph is not self.graph  # of another node, which may not run, or run often
                if inside or node in self.nodes or not self._same_shape(node):
                    continue
                tree = self._tree_of(node)
                if tree is not None:
                    return node, tree
        return None

    def _same_shape(self, node: ir.Node) -> bool:
        out = node.outputs[0]
        integers = self.strides is not None and out.dtype in (ir.DataType.INT8, ir.DataType.UINT8)
        # a size that is known at run time is compared when the node's tree is
        known = out.shape is not None and out.shape.is_static()
        fits = not known or tuple(out.shape or ()) == self.shape
        return fits and (out.dtype == ir.DataType.FLOAT or integers)

    def _tree_of(self, node: ir.Node) -> Lazy | None:
        if self.strides is not None and node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            return self._converted(node)
        if not is_elementwise(node) or node.outputs[0].dtype != ir.DataType.FLOAT:
            return None
        function, inputs, dtype, options = describe_elementwise(self.state, node)
        found: list[Quantized] = []
        args = [self._argument(value, found) for value in inputs]
        if any(a is None for a in args):
            return None
        self.operands += found
        known = [a for a in args if a is not None]
        tree = composed(function, known, dtype, tuple(sorted(options.items())))
        return tree if tree.shape == self.shape else None

    def _argument(self, value: ir.Value, found: list[Quantized]) -> Lazy | None:
        if value in self.trees:
            return self.trees[value]
        state = self.state
        integers = self._integers(value)  # which may be there before the node that makes floats of them
        if integers is not None:
            found.append(integers)
            assert self.strides is not None
            stored = Leaf(_laid_out(state, state.lazy(integers.integers), self.strides))
            parameters = _fills(integers.scale, integers.zero_point)
            return Elementwise("Dequantize", (stored, *parameters), "float32")
        if value not in state.values and value not in state.arrays:
            return None  # not computed yet
        operand = state.lazy(value)
        readable = isinstance(operand, Leaf) and operand.dtype == "float32" and self.fits(operand.tensor)
        return operand if readable or isinstance(operand, Fill) else None

    def _integers(self, value: ir.Value) -> Quantized | None:
        """A dequantised operand that a kernel of integers reads beside its own sums."""
        quantized = quantized_of(self.state, value) if self.strides is not None else None
        if quantized is None or not quantized.per_tensor or quantized.dtype not in ("int8", "uint8"):
            return None
        if quantized.integers not in self.state.values or value in self.state.arrays:
            return None
        return quantized if self.state.lazy(quantized.integers).shape == self.shape else None

    def _converted(self, node: ir.Node) -> Lazy | None:
        """A QuantizeLinear or DequantizeLinear of what the search has reached, of one scale."""
        source, out = node.inputs[0], node.outputs[0]
        scale, zero = self.state.constant(node.inputs[1]), np.zeros((), np.int32)
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            known = self.state.constant(node.inputs[2])
            if known is None:
                return None
            zero = known
        if source is None or source not in self.trees or scale is None or scale.size != 1 or zero.size != 1:
            return None
        args = (self.trees[source], *_fills(scale, zero))
        if node.op_type == "DequantizeLinear":
            return Elementwise("Dequantize", args, "float32")
        assert out.dtype is not None
        dtype = out.dtype.name.lower()
        low, high = integer_range(dtype)
        return Elementwise("Quantize", args, dtype, (("high", high), ("low", low)))


def _fills(scale: np.ndarray, zero_point: np.ndarray) -> tuple[Fill, Fill]:
    return Fill(float(scale.reshape(-1)[0]), "float32"), Fill(int(zero_point.reshape(-1)[0]), "int32")


def _laid_out(state: Lowering, value: Lazy, strides: tuple[int, ...]) -> Tensor:
    """The value in memory with these strides."""
    if isinstance(value, Leaf) and value.tensor.strides == strides:
        whole = value.tensor.place != "input" or value.shape[-1] % _VECTOR == 0
        if whole:  # only the arena and the weights may be read past their end
            return value.tensor
    if len(value.shape) == 4 and strides == pixel_strides(value.shape):
        return pixel_major(state, value)
    out = state.new_tensor("operand", value.dtype, value.shape, strides)
    state.steps.append(Computed(value, out))
    return out
