"""From a prepared ONNX graph to a Program: rules node by node, then memory, then code on demand."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from gossamer.runtime.errors import ModelError, UnsupportedError

from ..cpu.isa import Isa
from ..cpu.tensor import Tensor, contiguous
from ..formats import format_of_operator
from ..program import Program
from ..targets.base import Target
from .attributes import describe
from .entry import Layout, build_module
from .fed.base import lower_fed
from .inputs import bind_inputs
from .ledger import ledger_of
from .limits import check_arena, check_tensors, named_failures
from .memory import plan_memory
from .operands import check_operands
from .registry import REFUSAL, rule_for
from .shape_values import computed_shapes
from .state import Encoded, Lowering, dtype_name, static_shape
from .steps import layer_names
from .surveying import noted
from .tables import describe_table, make_table, tensor_info
from .ways import Tuner

__all__ = ["lower", "lower_nodes", "write_outputs"]


def lower(model: ir.Model, target: Target, tuner: Tuner | None = None) -> Program:
    """Lowers a model made ready by `gossamer.passes.clean.prepare` for one target.

    A `tuner` measures how each layer is best computed; it runs code of the target on this machine.

    Raises UnsupportedError naming operator, node and reason; ModelError where shapes contradict each other.
    """
    variants = list(target.variants)
    isa = Isa(target, variants[0])
    state = Lowering(isa, tuner=tuner)
    graph = model.graph
    inputs = bind_inputs(state, graph)
    lower_nodes(state, graph)
    outputs = write_outputs(state, graph)
    table = make_table(state, inputs, outputs)
    memory = plan_memory(state.steps, isa, table)
    if isinstance(memory.bytes, int):
        check_arena(memory.bytes)
    symbol = _symbol(graph.name or "model")
    tensors = [*inputs, *outputs]
    layout = Layout(
        {id(t): i for i, t in enumerate(tensors)},
        state.pool.offsets,
        memory.offsets,
        memory.scratch,
        memory.bytes,
        memory.scratch_bytes,
        table,
    )
    described = describe_table(table, symbol, memory.bytes, memory.scratch_bytes)
    more = {described.symbol: described.function} if described else {}
    types = [t.dtype for t in tensors]
    weights = state.pool.blob()
    return Program(
        name=symbol,
        symbol=f"gossamer_entry_{symbol}",
        inputs=tuple(tensor_info(t, table) for t in inputs),
        outputs=tuple(tensor_info(t, table) for t in outputs),
        module=lambda v: build_module(
            f"gossamer_entry_{symbol}", state.steps, types, layout, Isa(target, v), more
        ),
        weights=weights,
        weight_table=tuple(state.pool.table),
        arena_bytes=memory.bytes if isinstance(memory.bytes, int) else 0,
        arena_bound_bytes=memory.lower_bound,
        scratch_bytes=memory.scratch_bytes if isinstance(memory.scratch_bytes, int) else 0,
        layers=tuple(state.layers),
        steps=state.origins.describe(state.steps, isa),
        blocks=tuple(state.pool.blocks),
        ledger=ledger_of(state, graph),
        table=described,
    )


def _symbol(name: str) -> str:
    """A C identifier made of a graph's name."""
    word = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_").lower()
    return word if word and not word[0].isdigit() else f"model_{word}".rstrip("_")


def _bind_constants(state: Lowering, graph: ir.Graph) -> None:
    for value in graph.initializers.values():
        if value.const_value is None:
            raise ModelError("an initializer has no data", where=value.name)
        state.arrays[value] = value.const_value.numpy()


def lower_nodes(state: Lowering, graph: ir.Graph) -> None:
    """Appends the kernels of a graph, whose inputs must be known: the model's, or one inside a node."""
    _bind_constants(state, graph)
    order = {node: i for i, node in enumerate(graph)}
    for node in graph:
        if node in state.absorbed:
            continue
        before = set(state.absorbed)
        if state.survey is not None and state.survey.leaves_out(node):
            continue
        with noted(state, node.op_type, node.name or "", list(node.outputs)):
            check_tensors(state, [*node.inputs, *node.outputs], describe(node))
            check_operands(node)
            with named_failures(node):
                _lower_node(state, node)
            check_tensors(state, node.outputs, describe(node))
        fused = sorted((n for n in state.absorbed - before if n in order), key=order.__getitem__)
        state.origins.note(state.steps, layer_names(node, fused))


def _lower_node(state: Lowering, node: ir.Node) -> None:
    if node.domain not in ("", "ai.onnx"):
        _decode(state, node)
        return
    rule = rule_for(node.op_type)
    if rule is None:
        raise UnsupportedError(
            "no kernel for this operator", where=describe(node), advice="see docs/models.md"
        )
    if _fold_constant(state, node) or computed_shapes(state, node) or lower_fed(state, node):
        return
    rule(state, node)


def _fold_constant(state: Lowering, node: ir.Node) -> bool:
    """Transposes and other shapes of decoded weights are constants too."""
    if node.op_type not in ("Transpose", "Reshape"):
        return False
    array = state.constant(node.inputs[0])
    if array is None:
        return False
    if node.op_type == "Reshape":
        shape = static_shape(node.outputs[0], describe(node))
        state.arrays[node.outputs[0]] = array.reshape(shape)
        kept = state.encoded.get(node.inputs[0]) if node.inputs[0] is not None else None
        if kept is not None and not kept.transposed and shape[:1] == array.shape[:1]:
            state.encoded[node.outputs[0]] = kept  # a matrix [O, K] that becomes a convolution's weight
        return True
    perm = node.attributes.get("perm")
    state.arrays[node.outputs[0]] = np.transpose(array, tuple(perm.as_ints()) if perm else None)
    encoded = state.encoded.get(node.inputs[0]) if node.inputs[0] is not None else None
    if encoded is not None and array.ndim == 2:
        turned = perm is None or tuple(perm.as_ints()) == (1, 0)
        state.encoded[node.outputs[0]] = replace(encoded, transposed=encoded.transposed != turned)
    return True


def _decode(state: Lowering, node: ir.Node) -> None:
    """A compressed weight: decoded here, packed again as its kernel reads it."""
    found = format_of_operator(node.op_type) if node.domain == "gossamer" else None
    if found is None:
        raise UnsupportedError(
            "no kernel for this operator",
            where=describe(node),
            got=f"domain {node.domain!r}" + (f": {reason}" if (reason := node.meta.get(REFUSAL)) else ""),
        )
    given = {name: value for name, value in zip(found.parts, node.inputs, strict=False) if value is not None}
    parts = {name: array for name, value in given.items() if (array := state.constant(value)) is not None}
    if len(parts) < len(given):
        raise UnsupportedError("a compressed weight must be constant", where=describe(node))
    out = node.outputs[0]
    state.arrays[out] = found.decode(parts)
    nested = {name: state.encoded[value] for name, value in given.items() if value in state.encoded}
    state.encoded[out] = Encoded(found, parts, nested)


def write_outputs(state: Lowering, graph: ir.Graph) -> list[Tensor]:
    """Every output is copied or computed into the caller's buffer."""
    tensors = []
    for value in graph.outputs:
        if state.survey is not None and value in state.survey.unknown:
            continue
        with noted(state, "output", value.name or "", []):
            tensors.append(_write_output(state, value))
    return tensors


def _write_output(state: Lowering, value: ir.Value) -> Tensor:
    where = f"output {value.name!r}"
    dtype = dtype_name(value, where)
    source = state.lazy(value)
    out = Tensor(value.name or "", dtype, source.shape, contiguous(source.shape), "output")
    state.compute(source, out)
    state.origins.note(state.steps, [where])
    return out
