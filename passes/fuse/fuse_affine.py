"""A scalar scale and shift after a convolution belong to its weights: (conv(x, W) + B) * s + o = conv(x,
W*s) + B*s + o."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
from onnxscript.rewriter import RewritePass
from onnxscript.rewriter.rules import common as rules

from ..base import Pass, record_removed
from ..naming import functions_aside, keeping_names, name_everything
from ..report import PassReport

__all__ = ["FuseAffine"]

_RULES = (rules.affine_conv_fusion_rule, rules.conv_affine_fusion_rule)


@dataclass(frozen=True)
class FuseAffine(Pass):
    """Fold scalar Mul and Add before or after a Conv with a bias into its weights."""

    stage: ClassVar[str] = "fuse"
    exact: ClassVar[bool] = True

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Fuse in place; each Mul or Add that vanishes is a change."""
        before = [node for node in model.graph if node.op_type in ("Mul", "Add")]
        with functions_aside(model), keeping_names(model):
            RewritePass(_RULES)(model)
        name_everything(model)
        record_removed(report, before, model, "folded into a Conv")
