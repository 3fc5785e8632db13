"""A batch normalisation after a convolution is a scale and a shift of its weights.

    Y = gamma * (conv(X, W) + B - mean) / sqrt(var + eps) + beta
      = conv(X, W * s) + (B - mean) * s + beta,   s = gamma / sqrt(var + eps) per output channel

The same for ConvTranspose and Gemm (https://onnx.ai/onnx/operators/onnx__BatchNormalization.html). Outputs
differ by rounding only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
from onnxscript.rewriter import RewritePass
from onnxscript.rewriter.rules import common as rules

from ..base import Pass, change, refuse
from ..naming import functions_aside, keeping_names, name_everything
from ..report import PassReport

__all__ = ["FoldBatchNorm"]

_RULES = (
    rules.fuse_batchnorm_into_conv_rule,
    rules.fuse_batchnorm_into_conv_transpose_rule,
    rules.fuse_batchnorm_into_gemm_rule,
)
_INTO = ("Conv", "ConvTranspose", "Gemm")


@dataclass(frozen=True)
class FoldBatchNorm(Pass):
    """Fold BatchNormalization into the Conv, ConvTranspose or Gemm before it."""

    stage: ClassVar[str] = "clean"
    exact: ClassVar[bool] = True

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Fold in place; a batch normalisation that stays is refused with the reason."""
        found = [node for node in model.graph if node.op_type == "BatchNormalization" and not node.domain]
        reasons = {node: _reason(node) for node in found}
        training = [node for node in found if reasons[node] == _TRAINING]
        producers = {node: node.inputs[0].producer() for node in found if node.inputs[0] is not None}
        report.matched = len(found)
        if len(training) < len(found):
            self._fold(model, training, producers)
        left = set(model.graph)
        for node in found:
            into = producers.get(node)
            if node in left or into is None:
                refuse(report, node, reasons[node] or "onnxscript's rule does not match it")
            else:
                change(report, node, f"folded into {into.op_type} {into.name}")

    def _fold(
        self, model: ir.Model, training: list[ir.Node], producers: dict[ir.Node, ir.Node | None]
    ) -> None:
        for node in training:
            # The rules do not look at the attribute; another operator type keeps them away.
            node.op_type = "TrainingBatchNormalization"
        with functions_aside(model), keeping_names(model) as names:
            for node, into in producers.items():
                if into is not None and into.op_type in _INTO:
                    names[node.outputs[0].name] = into.name
            RewritePass(_RULES)(model)
        for node in training:
            node.op_type = "BatchNormalization"
        name_everything(model)


_TRAINING = "it is in training mode"


def _reason(node: ir.Node) -> str:
    """Why `node` cannot be folded; empty if it can, as far as can be seen before."""
    if node.attributes.get_int("training_mode", 0) or len([o for o in node.outputs if o.uses()]) > 1:
        return _TRAINING
    value = node.inputs[0]
    producer = value.producer() if value is not None else None
    if producer is None or producer.op_type not in _INTO or producer.domain:
        kind = producer.op_type if producer is not None else "an input"
        return f"it follows {kind}, not Conv, ConvTranspose or Gemm"
    if value is not None and (len(value.uses()) > 1 or value.is_graph_output()):
        return f"the output of {producer.name} is used elsewhere too"
    constants = [*producer.inputs[1:], *node.inputs[1:]]
    if any(v is not None and v.const_value is None for v in constants):
        return "its parameters or the weights before it are not constant"
    if any(v is not None and len(v.uses()) > 1 for v in producer.inputs[1:]):
        return f"the weights of {producer.name} are shared"
    return ""
