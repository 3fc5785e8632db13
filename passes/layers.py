"""Layers with constant weights, and passes whose options differ from layer to layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Self

import onnx_ir as ir

from gossamer.kernels.formats import DOMAIN
from gossamer.kernels.formats.base import Array
from gossamer.runtime.errors import OptionError, nearest

from .base import Pass, change, node_label, refuse
from .options import check_options
from .report import PassReport

__all__ = ["LAYER_TYPES", "Layer", "LayerPass", "decoder", "first_layers", "last_layers", "weighted_layers"]

LAYER_TYPES = ("Conv", "Gemm", "MatMul")
_WEIGHT = 1
_MOVES = frozenset(["Transpose", "Reshape"])
_WILD = frozenset("*?[")


@dataclass(frozen=True)
class Layer:
    """A node of LAYER_TYPES and the value that holds its weights.

    `rows_are_outputs` tells the two orientations apart: [N, K, ...] (Conv, Gemm with transB), or [K, N].
    """

    node: ir.Node
    weight: ir.Value
    rows_are_outputs: bool

    @property
    def groups(self) -> int:
        """Groups of a convolution, else 1."""
        return int(self.node.attributes.get_int("group", 1)) if self.node.op_type == "Conv" else 1

    def reason_not_constant(self) -> str:
        """Why the weights cannot be changed; empty if they can."""
        if (stored_by := decoder(self.weight)) is not None:
            return f"its weights are stored by {stored_by.op_type} already"
        if self.weight.const_value is None or self.weight.is_graph_input():
            return "its weights are not constant"
        if self.weight.is_graph_output():
            return "its weights are an output of the model"
        others = [use.node for use in self.weight.uses() if not _reads_as_weight(use.node, self.weight)]
        if others:
            return f"its weights are read by {others[0].op_type} {node_label(others[0])} too"
        return ""

    def outputs_first(self, array: Array) -> Array:
        """`array`, shaped like the weights, with the outputs on its first axis."""
        return array if self.rows_are_outputs else array.T


def weighted_layers(model: ir.Model) -> list[Layer]:
    """Nodes of the main graph that multiply by weights of rank 2 or more, in order."""
    return [layer for node in model.graph if (layer := _as_layer(node)) is not None]


def _as_layer(node: ir.Node) -> Layer | None:
    if node.domain or node.op_type not in LAYER_TYPES or len(node.inputs) <= _WEIGHT:
        return None
    weight = node.inputs[_WEIGHT]
    if weight is None or not _is_constant(weight):
        return None
    if weight.shape is None or len(weight.shape) < 2 or (node.op_type == "MatMul" and len(weight.shape) > 2):
        return None
    transposed = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1
    return Layer(node, weight, node.op_type == "Conv" or transposed)


def decoder(value: ir.Value) -> ir.Node | None:
    """The node that decodes `value`, turned or in another shape, from initializers; None if there is none.

    It is a format's function, or DequantizeLinear of codes that are constant or stored by a format.
    """
    node = value.producer()
    while node is not None and node.op_type in _MOVES and not node.domain and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or node.domain == DOMAIN:
        return node
    codes = node.inputs[0] if node.op_type == "DequantizeLinear" and not node.domain else None
    return node if codes is not None and _is_constant(codes) else None


def _is_constant(value: ir.Value) -> bool:
    """Whether `value` is an initializer or decoded from initializers."""
    return value.is_initializer() or decoder(value) is not None


def _reads_as_weight(node: ir.Node, weight: ir.Value) -> bool:
    layer = _as_layer(node)
    return layer is not None and layer.weight is weight and list(node.inputs).count(weight) == 1


def first_layers(model: ir.Model, layers: Iterable[Layer]) -> set[ir.Node]:
    """Layers that see the model's inputs and have no other layer before them.

    A table that is looked up (a Gather of an embedding) is a first layer of its own: none behind it is one.
    """
    weighted = {layer.node for layer in layers}
    reached, behind, first = set(model.graph.inputs), set[ir.Value](), set()
    for node in model.graph:
        after = any(value in behind for value in node.inputs)
        if node in weighted or _is_lookup(node):
            if node in weighted and not after and any(value in reached for value in node.inputs):
                first.add(node)
            behind.update(node.outputs)
        elif after:
            behind.update(node.outputs)
        elif any(value in reached for value in node.inputs):
            reached.update(node.outputs)
    return first


def _is_lookup(node: ir.Node) -> bool:
    table = node.inputs[0] if node.op_type == "Gather" and not node.domain else None
    return table is not None and _is_constant(table) and table.shape is not None and len(table.shape) == 2


def last_layers(model: ir.Model, layers: Iterable[Layer]) -> set[ir.Node]:
    """Layers whose results reach the model's outputs and that have no other layer behind them.

    A layer norm in between makes a layer an inner one: what an encoder gives is no classifier's result.
    """
    weighted = {layer.node for layer in layers}
    reached, before, last = set(model.graph.outputs), set[ir.Value](), set()
    for node in reversed(model.graph):
        sources = [value for value in node.inputs if value is not None]
        earlier = any(value in before for value in node.outputs)
        if node in weighted or node.op_type == "LayerNormalization":
            if node in weighted and not earlier and any(value in reached for value in node.outputs):
                last.add(node)
            before.update(sources)
        elif earlier:
            before.update(sources)
        elif any(value in reached for value in node.outputs):
            reached.update(sources)
    return last


@dataclass(frozen=True, kw_only=True)
class LayerPass(Pass):
    """A pass whose options may differ from layer to layer; the nearest wins.

    The pass's own options hold everywhere; `operators` overrides them by operator type, `nodes` by the name
    of the node, which may be a pattern (`*`, `?`); of several patterns that match, the later one wins, and
    an exact name wins over patterns. `skip` leaves a layer as it is.
    """

    skip: bool = False
    operators: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    nodes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    layer_options: ClassVar[tuple[str, ...]] = ("skip",)
    """Options that may be given for one layer."""

    def __post_init__(self) -> None:
        """Check the overrides as strictly as the options themselves."""
        for kind, table in (("operators", self.operators), ("nodes", self.nodes)):
            for key, options in table.items():
                where = f"{self.pass_name()}: {kind}: {key}"
                if kind == "operators" and key not in LAYER_TYPES:
                    raise OptionError(
                        "not an operator with weights",
                        where=where,
                        expected="one of " + ", ".join(LAYER_TYPES),
                        advice=nearest(key, LAYER_TYPES),
                    )
                replace(self, operators={}, nodes={}, **self._checked(options, where))

    def _checked(self, options: Mapping[str, Any], where: str) -> dict[str, Any]:
        return check_options(type(self), options, where, self.layer_options)

    def at(self, node: ir.Node) -> Self:
        """This pass with the options that hold for `node`."""
        merged = dict(self.operators.get(node.op_type, {}))
        for pattern, options in sorted(self.nodes.items(), key=lambda item: not _WILD & set(item[0])):
            if node.name is not None and (node.name == pattern or fnmatchcase(node.name, pattern)):
                merged.update(options)
        where = f"{self.pass_name()}: {node.name}"
        changed = replace(self, operators={}, nodes={}, **self._checked(merged, where)) if merged else self
        return changed.within(self.context)

    def check(self, model: ir.Model) -> None:
        """Names and patterns must match layers."""
        self.check_names(weighted_layers(model))

    def check_names(self, layers: Iterable[Layer]) -> None:
        """Raises OptionError for a name or pattern that no layer has: it would be skipped silently."""
        names = [layer.node.name or "" for layer in layers]
        for pattern in self.nodes:
            if pattern not in names and not any(fnmatchcase(name, pattern) for name in names):
                raise OptionError(
                    "no layer with weights has this name",
                    where=f"{self.pass_name()}: nodes: {pattern}",
                    advice=nearest(pattern, names),
                )

    def chosen(
        self, layers: Iterable[Layer], report: PassReport, refusal: Callable[[Layer], str], done: str
    ) -> list[Layer]:
        """One layer for each weight that is to be changed; others are refused, or share it.

        `refusal` says why a layer stays as it is; `done` is what happens to a weight: "rounded".
        """
        found: dict[ir.Value, Layer] = {}
        for layer in layers:
            if layer.weight in found:
                owner = node_label(found[layer.weight].node)
                change(report, layer.node, f"shares the weights of {owner}, which are {done} there")
            elif reason := refusal(layer):
                refuse(report, layer.node, reason)
            else:
                found[layer.weight] = layer
        return list(found.values())
