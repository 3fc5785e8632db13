"""Quantised graphs of every origin become QuantizeLinear and DequantizeLinear around float operators.

Rules look at what a kernel computes with integers in that form:

    QLinearConv(x, w)  =  Q(Conv(DQ(x), DQ(w)))

https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, RemoveUnusedOpsetsPass

from ..base import Pass, change, refuse
from ..naming import functions_aside, name_everything
from ..quantized.canonical import bring_to_form
from ..quantized.checking import check_quantization
from ..quantized.parameters import is_dequantize, is_quantize
from ..quantized.registry import rewrite_for
from ..quantized.writing import Refused, Writer
from ..report import PassReport
from ..shapes import infer_shapes

__all__ = ["FuseQdq"]

_LEAST_OPSET = 21
"""From here on Q/DQ know blocks, and types of 4 and 16 bits."""


@dataclass(frozen=True)
class FuseQdq(Pass):
    """Write quantised operators as Q/DQ around float ones, and move data between them as integers."""

    stage: ClassVar[str] = "fuse"
    exact: ClassVar[bool] = True

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Rewrite in place; each node that vanishes or moves is a change."""
        if model.opset_imports.get("", 0) < _LEAST_OPSET:
            report.notes.append(f"nothing done below opset {_LEAST_OPSET}")
            return
        if not any(_is_quantized(node) for node in model.graph):
            return
        infer_shapes(model)
        check_quantization(model)  # again, since more is known of shapes and constants now
        _rewrite_operators(model, report)
        bring_to_form(model.graph, report)
        with functions_aside(model):
            RemoveUnusedNodesPass()(model)
        RemoveUnusedOpsetsPass()(model)
        name_everything(model)
        infer_shapes(model)
        report.matched = len(report.changed) + len(report.refused)
        counts = Counter(node.op_type for node in model.graph)
        names = ("QuantizeLinear", "DequantizeLinear")
        report.notes.append(" and ".join(f"{counts[name]} {name}" for name in names) + " in the end")


def _is_quantized(node: ir.Node) -> bool:
    return is_quantize(node) or is_dequantize(node) or rewrite_for(node) is not None


def _rewrite_operators(model: ir.Model, report: PassReport) -> None:
    """QLinear operators and onnxruntime's own; again where shapes behind others have become known."""
    while True:
        found = [node for node in model.graph if rewrite_for(node) is not None]
        refused = {node: reason for node in found if (reason := _rewrite(node, model, report))}
        if found:
            name_everything(model)
            infer_shapes(model)
        if len(refused) == len(found):
            break
    for node, reason in refused.items():
        refuse(report, node, reason)


def _rewrite(node: ir.Node, model: ir.Model, report: PassReport) -> str:
    """Rewrites one node; the reason where that cannot be, else empty."""
    rewrite = rewrite_for(node)
    assert rewrite is not None
    writer = Writer(node, model)
    try:
        writer.give(rewrite(writer))
    except Refused as refusal:
        writer.undo()
        return str(refusal)
    change(report, node, "written as QuantizeLinear and DequantizeLinear around a float operator")
    return ""
