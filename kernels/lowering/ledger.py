"""The ledger of quantised values: which Q and DQ nodes integer kernels took, and why others are left."""

from __future__ import annotations

import onnx_ir as ir

from gossamer.runtime.specs import LedgerSpec, LeftSpec

from .attributes import describe
from .state import Lowering

__all__ = ["ledger_of"]

_BYTES = frozenset({"INT8", "UINT8", "INT32"})  # int32: biases
_LONGEST = 1000


def ledger_of(state: Lowering, graph: ir.Graph) -> LedgerSpec:
    """Every QuantizeLinear and DequantizeLinear of the lowered graph, once as a number or once by name."""
    nodes = [node for node in graph if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    nodes = [node for node in nodes if node.domain in ("", "ai.onnx")]
    left = [node for node in nodes if node not in state.integer_nodes]
    entries = [LeftSpec(node.name or "", node.op_type, _reason(state, node)[:_LONGEST]) for node in left]
    return LedgerSpec(len(nodes) - len(left), tuple(entries))


def _reason(state: Lowering, node: ir.Node) -> str:
    """What a rule said when it refused the node, else what its neighbours show."""
    if node in state.float_reasons:
        return state.float_reasons[node]
    result = node.outputs[0]
    if result.is_graph_output():
        return f"gives the model's output {result.name!r}"
    return _of_quantizer(node) if node.op_type == "QuantizeLinear" else _of_dequantizer(state, node)


def _of_quantizer(node: ir.Node) -> str:
    given, result = node.inputs[0], node.outputs[0]
    source = given.producer() if given is not None else None
    if source is None:
        return f"quantises the model's input {given.name!r}" if given is not None else "reads nothing"
    if (other := _other_type(result)) is not None:
        return other
    if source.op_type == "DequantizeLinear":
        return f"changes the scale of what {source.name!r} gives"
    return f"rounds what {describe(source)} gives, which computes in {_type_name(given)}"


def _of_dequantizer(state: Lowering, node: ir.Node) -> str:
    given, result = node.inputs[0], node.outputs[0]
    readers = list(dict.fromkeys(use.node for use in result.uses()))
    if not readers:
        return "nothing reads it"
    names = " and ".join(describe(reader) for reader in readers[:3])
    if result in state.encoded:
        return (
            f"a stored weight: {names} decodes it while it computes, on activations in {_type_name(result)}"
        )
    if result in state.arrays:
        return f"a constant: {names} reads it as {_type_name(result)}"
    other = _other_type(given)
    return other if other is not None else f"read by {names}, which computes in {_type_name(result)}"


def _other_type(value: ir.Value | None) -> str | None:
    name = value.dtype.name if value is not None and value.dtype is not None else ""
    return f"no kernel computes with {name.lower()}" if name and name not in _BYTES else None


def _type_name(value: ir.Value | None) -> str:
    name = value.dtype.name.lower() if value is not None and value.dtype is not None else "float"
    return "float32" if name == "float" else name
