"""A pass: a frozen dataclass whose fields are its options, run over a model in place.

Stages run in the order of STAGES. What a pass matched, changed and refused goes into its PassReport, node
by node.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import onnx_ir as ir

from .context import Context
from .report import Change, PassReport, Refusal

__all__ = [
    "STAGES",
    "Pass",
    "PassOutcome",
    "change",
    "node_label",
    "record_removed",
    "refuse",
    "weight_bytes",
]

STAGES = ("clean", "compress", "fuse", "lower")


@dataclass
class PassOutcome(ir.passes.PassResult):
    """onnx_ir's result, with the account of the pass."""

    report: PassReport


class Pass(ir.passes.InPlacePass):
    """Base of every pass; subclasses are frozen dataclasses in the folder of their stage.

    `exact` promises the same outputs up to float rounding; the promise is checked when a model is converted.
    """

    stage: ClassVar[str]
    exact: ClassVar[bool]
    calibrated: ClassVar[bool] = False
    """Whether the pass measures activations on calibration data where there is any."""
    compares: ClassVar[bool] = False
    """Whether the pass is given the model as it was before the first lossy pass, as `context.source`."""
    context: ClassVar[Context] = Context()
    """What the pass runs with: no option of its own, set by `within`."""

    def within(self, context: Context) -> Self:
        """This pass, run with `context`."""
        bound = copy(self)
        object.__setattr__(bound, "context", context)
        return bound

    def check(self, model: ir.Model) -> None:
        """Raises OptionError where the options do not fit `model`; called before any lossy work starts."""

    @abstractmethod
    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Change `model` in place and write what was done into `report`."""

    @classmethod
    def pass_name(cls) -> str:
        """The name in recipes: that of the file, with dashes."""
        return cls.__module__.rpartition(".")[2].replace("_", "-")

    def options(self) -> dict[str, Any]:
        """Values of the fields, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]

    def call(self, model: ir.Model) -> PassOutcome:
        """Run the pass; called by onnx_ir, which checks that the model object stays the same."""
        report = PassReport(self.pass_name(), self.stage, self.exact, self.options())
        report.bytes_before = weight_bytes(model)
        self.apply(model, report)
        report.bytes_after = weight_bytes(model)
        return PassOutcome(model, bool(report.changed), report)


def change(
    report: PassReport, node: ir.Node, detail: str, bytes_before: int = 0, bytes_after: int = 0
) -> None:
    """Write into `report` that `node` was changed."""
    report.changed.append(Change(node_label(node), node.op_type, detail, bytes_before, bytes_after))


def refuse(report: PassReport, node: ir.Node, reason: str) -> None:
    """Write into `report` that `node` was left as it is."""
    report.refused.append(Refusal(node_label(node), node.op_type, reason))


def node_label(node: ir.Node) -> str:
    """The node's name, else that of its first output."""
    return node.name or next((v.name for v in node.outputs if v.name), "") or node.op_type


def weight_bytes(model: ir.Model) -> int:
    """Bytes of the initializers of every graph and of the tensors in nodes; no tensor is read."""
    stored = (value.const_value for graph in model.graphs() for value in graph.initializers.values())
    inside = (
        attribute.as_tensor()
        for node in model.graph.all_nodes()
        for attribute in node.attributes.values()
        if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref()
    )
    return sum(tensor.nbytes for tensor in (*stored, *inside) if tensor is not None)


def record_removed(report: PassReport, before: Iterable[ir.Node], model: ir.Model, detail: str) -> None:
    """Write each node of `before` that is no longer in the main graph into `report`."""
    left = set(model.graph)
    for node in before:
        if node not in left:
            report.matched += 1
            change(report, node, detail)
