"""Grows the epilogue of a convolution or matrix product over the elementwise nodes behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import onnx_ir as ir

from ..cpu.epilogue import Accumulator
from ..cpu.lazy import Fill, Lazy, Leaf, composed
from ..cpu.tensor import Tensor
from .elementwise import describe_elementwise, is_elementwise
from .state import Lowering

__all__ = ["Epilogue", "grow_epilogue"]


@dataclass
class Epilogue:
    """`tree` computes `value` from the accumulator; `nodes` are the graph nodes it replaces."""

    tree: Lazy
    value: ir.Value
    nodes: list[ir.Node] = field(default_factory=list)


def grow_epilogue(
    state: Lowering, value: ir.Value, shape: tuple[int, ...], fits: Callable[[Tensor], bool]
) -> Epilogue:
    """The longest chain of elementwise consumers with a single result.

    `fits(tensor)` says whether an operand in memory can be read tile by tile.
    """
    trees: dict[ir.Value, Lazy] = {value: Accumulator(shape)}
    nodes: list[ir.Node] = []
    best = Epilogue(trees[value], value)
    while (found := _next_node(state, trees, nodes, shape, fits)) is not None:
        node, tree = found
        trees[node.outputs[0]] = tree
        nodes.append(node)
        escaping = [v for v in trees if _escapes(v, nodes)]
        if len(escaping) == 1:
            best = Epilogue(trees[escaping[0]], escaping[0], list(nodes))
    return best


def _escapes(value: ir.Value, nodes: list[ir.Node]) -> bool:
    """Whether anything outside `nodes` needs the value."""
    return value.is_graph_output() or any(use.node not in nodes for use in value.uses())


def _next_node(
    state: Lowering,
    trees: dict[ir.Value, Lazy],
    nodes: list[ir.Node],
    shape: tuple[int, ...],
    fits: Callable[[Tensor], bool],
) -> tuple[ir.Node, Lazy] | None:
    for value in list(trees):
        if value.is_graph_output():
            continue
        for use in value.uses():
            node = use.node
            if node in nodes or not is_elementwise(node) or not _same_shape(node, shape):
                continue
            tree = _tree_of(state, node, trees, fits)
            if tree is not None:
                return node, tree
    return None


def _same_shape(node: ir.Node, shape: tuple[int, ...]) -> bool:
    out = node.outputs[0]
    known = out.shape is not None and tuple(out.shape) == shape
    return known and out.dtype == ir.DataType.FLOAT


def _tree_of(
    state: Lowering, node: ir.Node, trees: dict[ir.Value, Lazy], fits: Callable[[Tensor], bool]
) -> Lazy | None:
    function, inputs, dtype, options = describe_elementwise(state, node)
    args: list[Lazy] = []
    for value in inputs:
        if value in trees:
            args.append(trees[value])
            continue
        if value not in state.values and value not in state.arrays:
            return None  # not computed yet
        operand = state.lazy(value)
        readable = isinstance(operand, Leaf) and operand.dtype == "float32" and fits(operand.tensor)
        if not readable and not isinstance(operand, Fill):
            return None
        args.append(operand)
    return composed(function, args, dtype, tuple(sorted(options.items())))
