"""If, Loop and Scan: branches and loops of the entry, around the kernels of their graphs."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from gossamer.runtime.errors import ModelError, UnsupportedError

from ...cpu.lazy import Fill, Lazy, Leaf
from ...cpu.tensor import Tensor
from ..attributes import describe, integer, integers
from ..loops import Collected, Loop, taken
from ..registry import lowers
from ..scopes import nested
from ..state import Lowering
from ..tree import Branch

_ENDLESS = 2**31 - 2  # turns that no run makes: exporters write the largest number for a `while`


@lowers("If")
def lower_if(state: Lowering, node: ir.Node) -> None:
    """One of two graphs; both write their results to the same memory."""
    graphs = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
    condition = node.inputs[0]
    assert condition is not None
    known = state.constant(condition)
    if known is not None:
        _inline(state, node, graphs[0] if bool(known.reshape(-1)[0]) else graphs[1])
        return
    if condition in state.equations and _may_differ(graphs):
        # What follows takes one shape: exporters ask whether an axis of 1 can go.
        state.sizes.equal(*state.equations[condition], f"{describe(node)}: sizes must be equal")
        _inline(state, node, graphs[0])
        return
    flag = _one_value(state, node, condition, "the condition")
    results: list[Tensor] = []
    branch = Branch(flag, [], [])
    for graph, steps in zip(graphs, (branch.then, branch.other), strict=True):
        with nested(state) as inside:
            _write_results(state, node, _lower_graph(state, graph), results)
            steps += inside
    state.steps.append(branch)
    for value, tensor in zip(node.outputs, results, strict=True):
        state.define(value, Leaf(tensor))


def _may_differ(graphs: Sequence[ir.Graph]) -> bool:
    """Whether the results may have different ranks."""
    pairs = zip(*(graph.outputs for graph in graphs), strict=True)
    return any(a.shape is None or b.shape is None or len(a.shape) != len(b.shape) for a, b in pairs)


def _lower_graph(state: Lowering, graph: ir.Graph) -> list[Lazy]:
    from ..lower import lower_nodes  # which finds rules, and by them this module

    lower_nodes(state, graph)
    return [state.lazy(value) for value in graph.outputs]


def _inline(state: Lowering, node: ir.Node, graph: ir.Graph) -> None:
    """The graph that is always taken, as if it stood in the node's place."""
    lazies = _lower_graph(state, graph)
    for value, inner, lazy in zip(node.outputs, graph.outputs, lazies, strict=True):
        array = state.constant(inner)
        if array is not None:
            state.arrays[value] = array
        elif inner in state.known:
            state.learn(value, state.known[inner])
        else:
            state.define(value, lazy)


def _write_results(state: Lowering, node: ir.Node, lazies: Sequence[Lazy], results: list[Tensor]) -> None:
    """To `results`, which the first of both graphs makes."""
    if not results:
        results += [
            state.new_tensor(v.name or "if", x.dtype, x.shape)
            for v, x in zip(node.outputs, lazies, strict=True)
        ]
    for tensor, lazy in zip(results, lazies, strict=True):
        if (tensor.dtype, tensor.shape) != (lazy.dtype, lazy.shape):
            raise UnsupportedError(
                "the shape of a result depends on the condition",
                where=describe(node),
                expected=f"{tensor.dtype}{list(tensor.shape)} from both graphs",
                got=f"{lazy.dtype}{list(lazy.shape)}",
                advice="make the condition constant, or give --input-shape so that it becomes so",
            )
        state.compute(lazy, tensor)


def _one_value(state: Lowering, node: ir.Node, value: ir.Value, what: str) -> Tensor:
    tensor = state.stored(value)
    if tensor.size != 1:
        raise ModelError(f"{what} is not one value", where=describe(node), got=list(tensor.shape))
    return tensor


@lowers("Loop")
def lower_loop(state: Lowering, node: ir.Node) -> None:
    """A number of turns, while a condition holds; the body's further outputs are collected over all turns."""
    body = node.attributes["body"].as_graph()
    limit, condition, *initial = node.inputs  # ONNX wants both, if only by an empty name
    loop = Loop(state, node, body, _turns(state, node, limit))
    number, going, *inputs = body.inputs
    start: Lazy = Fill(True, "bool") if condition is None else state.lazy(condition)
    if isinstance(start, Fill) and not start.value:
        loop.most = 0
    carried = {v: state.lazy(x) for v, x in zip(inputs, initial, strict=True) if x is not None}
    # a turn only starts where the condition holds
    known = {number: loop.number(_ones(number)), going: Fill(True, "bool", _ones(going))}
    collected = [Collected()] * (len(body.outputs) - 1 - len(inputs))
    finals, stacks = loop.run(carried, known, collected, start)
    for value, lazy in zip(node.outputs, (*finals, *stacks), strict=True):
        state.define(value, lazy)


def _turns(state: Lowering, node: ir.Node, limit: ir.Value | None) -> int | Tensor | None:
    if limit is None:
        return None
    known = state.constant(limit)
    if known is not None:
        turns = max(0, int(known.reshape(-1)[0]))
        return turns if turns < _ENDLESS else None
    return _one_value(state, node, limit, "the number of turns")


def _ones(value: ir.Value) -> tuple[int, ...]:
    return (1,) * len(value.shape) if value.shape is not None else ()


@lowers("Scan")
def lower_scan(state: Lowering, node: ir.Node) -> None:
    """Slices of the scan inputs one after another; results are collected along an axis."""
    body = node.attributes["body"].as_graph()
    count = integer(node, "num_scan_inputs", 0)
    states = len(node.inputs) - count
    given = [value for value in node.inputs if value is not None]
    if not 0 < count <= len(given) or len(given) != len(body.inputs):
        raise ModelError("inputs do not fit its body", where=describe(node), expected=len(body.inputs))
    sources = [Leaf(state.tensor(state.lazy(v), v.name or "scanned")) for v in given[states:]]
    axes = [
        axis % max(1, len(x.shape))
        for axis, x in zip(integers(node, "scan_input_axes", [0] * count), sources, strict=True)
    ]
    lengths = {x.shape[axis] for axis, x in zip(axes, sources, strict=True)}
    if len(lengths) != 1:
        raise ModelError("scan inputs are of different lengths", where=describe(node), got=sorted(lengths))
    length = lengths.pop()
    loop = Loop(state, node, body, length)
    backward = integers(node, "scan_input_directions", [0] * count)
    known: dict[ir.Value, Lazy] = {
        v: Leaf(taken(x.tensor, axis, length - 1 - loop.turn if back else loop.turn))
        for v, x, axis, back in zip(body.inputs[states:], sources, axes, backward, strict=True)
    }
    carried = dict(zip(body.inputs[:states], map(state.lazy, given[:states]), strict=True))
    finals, stacks = loop.run(carried, known, _collected(node, len(body.outputs) - states))
    for value, lazy in zip(node.outputs, (*finals, *stacks), strict=True):
        state.define(value, lazy)


def _collected(node: ir.Node, count: int) -> list[Collected]:
    axes = integers(node, "scan_output_axes", [0] * count)
    backward = integers(node, "scan_output_directions", [0] * count)
    return [Collected(axis, bool(back)) for axis, back in zip(axes, backward, strict=True)]
