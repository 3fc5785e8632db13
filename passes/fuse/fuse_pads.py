"""A Pad with zeros before a convolution is the convolution's own padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
from onnxscript.rewriter import RewritePass
from onnxscript.rewriter.rules import common as rules

from ..base import Pass, change, refuse
from ..naming import functions_aside, keeping_names, name_everything
from ..report import PassReport

__all__ = ["FusePads"]

_RULES = (rules.fuse_pad_into_conv_rule, rules.fuse_pad_into_conv_integer_rule)


@dataclass(frozen=True)
class FusePads(Pass):
    """Pad(x) → Conv becomes Conv with `pads`, where the padding is constant zeros on spatial axes."""

    stage: ClassVar[str] = "fuse"
    exact: ClassVar[bool] = True

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Fuse in place; a Pad before a Conv that stays is refused."""
        pads = [node for node in model.graph if node.op_type == "Pad" and not node.domain]
        found = {pad: conv for pad in pads if (conv := _conv_after(pad))}
        labels = {pad: conv.name for pad, conv in found.items()}
        with functions_aside(model), keeping_names(model):
            RewritePass(_RULES)(model)
        name_everything(model)
        left = set(model.graph)
        report.matched = len(found)
        for pad, label in labels.items():
            if pad not in left:
                change(report, pad, f"fused into Conv {label}")
            else:
                refuse(
                    report,
                    pad,
                    "its mode, value, axes or sizes are not zeros on spatial axes, or it has two readers",
                )


def _conv_after(pad: ir.Node) -> ir.Node | None:
    users = [use.node for use in pad.outputs[0].uses()]
    return next(
        (u for u in users if u.op_type in ("Conv", "ConvInteger") and u.inputs[0] is pad.outputs[0]), None
    )
