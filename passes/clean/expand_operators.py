"""Operators without a kernel that ONNX defines by other operators become those."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from gossamer.kernels.lowering.registry import has_rule
from gossamer.runtime.errors import GossamerError, ModelError

from ..base import Pass, change, node_label, refuse
from ..definitions.base import defined_body
from ..naming import name_everything
from ..report import PassReport
from ..shapes import infer_shapes

__all__ = ["ExpandOperators"]

_DOMAIN = "gossamer.definition"
_PREVIEW = ("ai.onnx.preview", "ai.onnx.preview.training")
_ROUNDS = 4
"""Definitions that use defined operators are expanded too; in ONNX they nest two deep."""


@dataclass(frozen=True)
class ExpandOperators(Pass):
    """Replace operators by their definition in ONNX where no kernel takes them.

    A definition may depend on the node's attributes and on types of its inputs, so types must be inferred.
    Not part of any recipe, since a file should not grow by it: `prepare` runs it for the compiler.
    """

    stage: ClassVar[str] = "clean"
    exact: ClassVar[bool] = True

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Expand in place; each operator replaced is a change, one without a definition is left alone."""
        for _ in range(_ROUNDS):
            nodes = [node for node in model.graph.all_nodes() if _is_wanted(node)]
            if sum(_becomes_call(model, node, report) for node in nodes) == 0:
                return
            _inline(model)
            name_everything(model)
            infer_shapes(model)


def _is_wanted(node: ir.Node) -> bool:
    if node.domain in ("", "ai.onnx"):
        return not has_rule(node)
    return node.domain in _PREVIEW


def _becomes_call(model: ir.Model, node: ir.Node, report: PassReport) -> bool:
    """Make the node a call of a function of its own, if ONNX defines it."""
    version = model.opset_imports[""]
    domain = node.domain.removeprefix("ai.onnx") and node.domain
    try:
        # its stubs lack what a schema says of functions
        schema: Any = onnx.defs.get_schema(node.op_type, model.opset_imports.get(domain, 1), domain)
    except onnx.defs.SchemaError:
        return False
    body = _defined(node, version) or _definition(schema, node, version)
    if body is None:
        if schema.has_function or schema.has_context_dependent_function:
            refuse(report, node, "its definition needs types that are not known")
        return False
    if (changed := _changed_since(body, version)) is not None:
        refuse(report, node, f"its definition uses {changed} as it was before opset {version}")
        return False
    name = f"{node.op_type}_{len(model.functions)}"
    function = ir.serde.deserialize_function(body)
    function.graph.opset_imports[""] = version
    attributes = [a for a in function.attributes.values() if a.type != ir.AttributeType.GRAPH]
    definition = ir.Function(_DOMAIN, name, graph=function.graph, attributes=attributes)
    model.functions[definition.identifier()] = definition
    report.matched += 1
    change(report, node, f"expanded to {len(body.node)} nodes")
    _give_attributes(schema, node, function)
    node.domain, node.op_type = _DOMAIN, name
    return True


def _definition(schema: Any, node: ir.Node, version: int) -> onnx.FunctionProto | None:
    """The newest body of opset `version` or before; None without one."""
    body = onnx.FunctionProto()
    if schema.has_context_dependent_function:
        versions = [v for v in schema.context_dependent_function_opset_versions if v <= version]
        types = [_type_of(value) for value in node.inputs]
        if not versions or any(value is not None and value.type is None for value in node.inputs):
            return None
        found = schema.get_context_dependent_function_with_opset_version(
            max(versions), ir.to_proto(node).SerializeToString(), types
        )
    elif schema.has_function:
        versions = [v for v in schema.function_opset_versions if v <= version]
        found = schema.get_function_with_opset_version(max(versions)) if versions else b""
    else:
        return None
    body.ParseFromString(found)
    made = {name for inner in body.node for name in inner.output} | set(body.input)
    while body.output and body.output[-1] not in made:
        body.output.pop()  # left out by the node
    return body if body.node else None


def _changed_since(body: onnx.FunctionProto, version: int) -> str | None:
    """An operator of the body whose later form lacks inputs or attributes that the body gives it."""
    own = next((entry.version for entry in body.opset_import if not entry.domain), version)
    for node in (n for n in body.node if not n.domain):
        old, new = (onnx.defs.get_schema(node.op_type, v, "") for v in (own, version))
        given = range(min(len(node.input), len(old.inputs)))
        names = [[s.inputs[i].name if i < len(s.inputs) else "" for i in given] for s in (old, new)]
        if names[0] != names[1] or not {a.name for a in node.attribute} <= set(new.attributes):
            return str(node.op_type)
    return None


def _type_of(value: ir.Value | None) -> bytes:
    """The value's TypeProto, empty for an input that is left out."""
    if value is None:
        return b""
    return bytes(ir.to_proto(value).type.SerializeToString())


def _give_attributes(schema: Any, node: ir.Node, function: ir.Function) -> None:
    """The call gets exactly the attributes that the body refers to, with the operator's defaults."""
    inner = [attribute for n in function.all_nodes() for attribute in n.attributes.values()]
    wanted = {attribute.ref_attr_name for attribute in inner if attribute.is_ref()}
    for name in [name for name in node.attributes if name not in wanted]:
        node.attributes.pop(name)
    for name in filter(None, wanted - set(node.attributes)):
        default = schema.attributes[name].default_value if name in schema.attributes else None
        if default is not None and default.type != onnx.AttributeProto.UNDEFINED:
            node.attributes[name] = ir.serde.deserialize_attribute(default)


def _inline(model: ir.Model) -> None:
    try:
        InlinePass(criteria=lambda function: function.domain == _DOMAIN)(model)
    except (ir.passes.InvariantError, ValueError) as error:
        where = next((node_label(n) for n in model.graph.all_nodes() if n.domain == _DOMAIN), None)
        raise ModelError(f"an operator's definition cannot be inlined: {error}", where=where) from None
    model.opset_imports.pop(_DOMAIN, None)


def _defined(node: ir.Node, version: int) -> onnx.FunctionProto | None:
    """The body of a definition of ours; a node that it cannot make sense of is refused by its name."""
    try:
        return defined_body(node, version)
    except (GossamerError, MemoryError):
        raise
    except Exception as error:
        where = f"{node.op_type} node {node_label(node)!r}"
        got = f"{type(error).__name__}: {error}"
        raise ModelError("the operator cannot be expanded", where=where, got=got) from error
