"""Operators of onnxruntime's optimiser and transformer exporters become standard ones.

    SkipLayerNormalization(x, skip, γ, β)  =  LayerNormalization(x + skip, γ, β)

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedOpsetsPass

from gossamer.kernels.lowering.registry import REFUSAL
from gossamer.runtime.errors import UnsupportedError

from ..base import Pass, change, node_label, refuse
from ..contrib.expansion import Expansion, Refused
from ..contrib.old_operators import is_old
from ..contrib.registry import EXPERIMENTAL, expansion_of
from ..naming import name_everything
from ..report import PassReport
from ..shapes import infer_shapes

__all__ = ["ExpandContrib"]

_OPSET = 20
"""Of what expansions are made of: Gelu is an operator since."""
_LAYOUTS = frozenset({"com.microsoft.nchwc", "com.ms.internal.nhwc"})
"""Layouts for one machine, which onnxruntime writes when asked to optimise all it can."""


@dataclass(frozen=True)
class ExpandContrib(Pass):
    """Write operators of domain com.microsoft as standard ones; those that quantise are left to fuse-qdq.

    Below opset 20 operators that old exporters put into ONNX's own domain, against its standard, are only put
    aside, so that converters to newer opsets do not stop at them. Raises UnsupportedError for layouts that
    were made for one machine.
    """

    stage: ClassVar[str] = "clean"
    exact: ClassVar[bool] = True

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Rewrite in place; each node that vanishes is a change."""
        _refuse_layouts(model)
        _put_aside(model)
        if model.opset_imports.get("", 0) < _OPSET:
            return
        if not any(_expand_of(node) for node in model.graph.all_nodes()):
            return
        name_everything(model)
        infer_shapes(model)
        refused = _expand_all(model, report)
        for node, reason in refused.items():
            refuse(report, node, reason)
            node.meta[REFUSAL] = reason
        RemoveUnusedOpsetsPass()(model)
        report.matched += len(report.changed) + len(refused)


def _expand_of(node: ir.Node) -> bool:
    return expansion_of(node.domain, node.op_type) is not None


def _expand_all(model: ir.Model, report: PassReport) -> dict[ir.Node, str]:
    """Expand what can be; again where shapes behind others have become known. What is left, and why."""
    while True:
        found = [node for node in model.graph.all_nodes() if _expand_of(node)]
        refused = {node: reason for node in found if (reason := _expand(node, model, report))}
        if found:
            name_everything(model)
            infer_shapes(model)
        if len(refused) == len(found):
            return refused


def _expand(node: ir.Node, model: ir.Model, report: PassReport) -> str:
    """Expands one node; the reason where that cannot be, else empty."""
    expand = expansion_of(node.domain, node.op_type)
    assert expand is not None
    writer = Expansion(node, model)
    try:
        results = expand(writer)
    except Refused as refusal:
        writer.undo()
        return str(refusal)
    change(report, node, "written as standard operators")
    writer.give(*([results] if isinstance(results, ir.Value) else results))
    return ""


def _refuse_layouts(model: ir.Model) -> None:
    for node in model.graph.all_nodes():
        if node.domain in _LAYOUTS:
            raise UnsupportedError(
                "a layout that onnxruntime made for one machine",
                where=f"{node.op_type} node {node_label(node)!r}",
                expected="a model that any machine can run",
                got=f"domain {node.domain!r}",
                advice="save it with onnxruntime's graph optimisation level EXTENDED, or take the source",
            )


def _put_aside(model: ir.Model) -> None:
    """Operators of onnxruntime in ONNX's own domain get a domain of their own."""
    opset = model.opset_imports.get("", 0)
    for node in model.graph.all_nodes():
        if node.domain in ("", "ai.onnx") and is_old(node.op_type, opset):
            node.domain = EXPERIMENTAL
            model.opset_imports.setdefault(EXPERIMENTAL, 1)
