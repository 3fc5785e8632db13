"""Small graphs with what they are defined to give, and many of them as one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from gossamer.kernels.formats import DOMAIN, find_format
from gossamer.passes.storing import Stored

from .bounded import Array, Bounded, exact, reference

__all__ = ["Batch", "Case", "merge", "random_array"]

OPSET = 21


def random_array(seed: int, *shape: int) -> Array:
    """float32, normally distributed; the same for the same seed and shape."""
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


@dataclass(frozen=True, repr=False)
class Case:
    """A graph under construction: every operator added is computed by its reference at once.

    `label` says how to make it again. Inputs are fed at run time, weights are constants of the model. What is
    marked with `give` becomes an output.
    """

    label: str
    feeds: dict[str, Array] = field(default_factory=dict)
    weights: dict[str, Array] = field(default_factory=dict)
    nodes: list[tuple[str, list[str], list[str], dict[str, Any]]] = field(default_factory=list)
    values: dict[str, Bounded] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    formats: set[str] = field(default_factory=set)

    def __repr__(self) -> str:
        return self.label

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What hypothesis prints."""
        printer.text(self.label)

    def feed(self, array: Array) -> str:
        """The name of a new input."""
        return self._named(self.feeds, array)

    def weight(self, array: Array) -> str:
        """The name of a new constant."""
        return self._named(self.weights, array)

    def _named(self, where: dict[str, Array], array: Array) -> str:
        name = f"v{len(self.values)}"
        where[name] = array
        self.values[name] = exact(array)
        return name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """The name of an operator's first output; "" stands for an input that is left out."""
        given = [self.values[name] if name else None for name in inputs]
        results = reference(operator, attributes, given)
        names = [f"v{len(self.values) + i}" for i in range(len(results))]
        self.values.update(zip(names, results, strict=True))
        self.nodes.append((operator, list(inputs), names, attributes))
        return names[0]

    def stored(self, weight: Stored) -> str:
        """The name of a constant that is stored in a format: what its function decodes to, outputs first."""
        kind = find_format(weight.format)
        given = [weight.parts.get(part) for part in kind.parts]
        inputs = [
            "" if part is None else self.stored(part) if isinstance(part, Stored) else self.weight(part)
            for part in given
        ]
        name = f"v{len(self.values)}"
        self.values[name] = exact(weight.decode())
        self.nodes.append((kind.operator, inputs, [name], {"domain": DOMAIN}))
        self.formats.add(weight.format)
        return name

    def give(self, *names: str) -> Case:
        """Makes values outputs; returns the case."""
        self.outputs.extend(names)
        return self


@dataclass(frozen=True, repr=False)
class Batch:
    """`model` computes every case. `feeds` and `expected` are named c0_v1: case 0, its value v1."""

    cases: Sequence[Case]
    model: onnx.ModelProto
    feeds: dict[str, Array]
    expected: dict[str, Bounded]

    def label(self, name: str) -> str:
        """Of the case that a value belongs to."""
        return self.cases[int(name.partition("_")[0][1:])].label

    def faults(self, results: dict[str, Array]) -> list[str]:
        """A line for every output that is missing or beyond its bound."""
        found = []
        for name, wanted in self.expected.items():
            got = results.get(name)
            if got is None or got.shape != wanted.shape or got.dtype.name != wanted.dtype:
                what = None if got is None else (got.dtype.name, got.shape)
                found.append(f"{self.label(name)}: {name} is {what}, expected {(wanted.dtype, wanted.shape)}")
            elif not (worst := wanted.worst(got)) <= 1:
                found.append(f"{self.label(name)}: {name} is {worst:.3g} times its bound off")
        return found


def merge(cases: Sequence[Case]) -> Batch:
    """All cases side by side in one graph."""
    nodes, inputs, outputs, constants, decoded = [], [], [], [], []
    feeds: dict[str, Array] = {}
    expected: dict[str, Bounded] = {}
    for number, case in enumerate(cases):

        def own(name: str, number: int = number) -> str:
            return f"c{number}_{name}" if name else ""

        for name, array in case.feeds.items():
            feeds[own(name)] = array
            inputs.append(_described(own(name), array.dtype, array.shape))
        constants += [numpy_helper.from_array(a, own(name)) for name, a in case.weights.items()]
        for operator, ins, outs, attributes in case.nodes:
            names = list(map(own, ins)), list(map(own, outs))
            nodes.append(helper.make_node(operator, *names, name=own(outs[0]), **attributes))
        for name in case.outputs:
            expected[own(name)] = case.values[name]
            value = case.values[name]
            outputs.append(_described(own(name), np.dtype(value.dtype), value.shape))
        decoded += [
            _described(own(outs[0]), np.dtype(np.float32), case.values[outs[0]].shape)
            for _, _, outs, given in case.nodes
            if "domain" in given
        ]
    graph = helper.make_graph(nodes, "conformance", inputs, outputs, constants, value_info=decoded)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    functions = [
        ir.serde.serialize_function(find_format(name).function(OPSET))
        for name in sorted(set().union(*(case.formats for case in cases)))
    ]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=functions)
    return Batch(list(cases), onnx.shape_inference.infer_shapes(model), feeds, expected)


def _described(name: str, dtype: np.dtype[Any], shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), shape)
