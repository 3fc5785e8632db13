"""Weights become products of two smaller ones, of the rank that loses least for the bytes they save.

    Conv(x, W [256, 256, 3, 3], b)    Conv(Conv(x, A [64, 256, 3, 3]), B [256, 64, 1, 1], b')
    MatMul(x, W [512, 512])           MatMul(MatMul(x, A [512, 100]), B [100, 512])

One budget holds for all layers: what a layer loses for each byte it saves decides where ranks go (WeLore's
global threshold, Jaiswal et al. 2024, arXiv:2407.11239, is the other way). With calibration data a loss is
that of the layer's outputs, and factors are the best for them; without, it is that of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import onnx_ir as ir
from pydantic import Field

from gossamer.kernels.targets import find_target
from gossamer.runtime.errors import OptionError

from ..activations import Calibration
from ..base import change, refuse, weight_bytes
from ..layers import Layer, LayerPass, first_layers, last_layers, weighted_layers
from ..low_rank.allocation import Pick, Sized, allocate, by_error, by_rank, by_threshold
from ..low_rank.batched_products import why_not_by_blocks
from ..low_rank.curve import Curve
from ..low_rank.factors import AnyFactors
from ..low_rank.families import find_family
from ..low_rank.groups import Group, group_layers, make_problem, multiply_adds, pairs_of_rows, problems
from ..low_rank.problem import Problem, Single
from ..low_rank.rewriting import split_layers
from ..low_rank.speed import no_slower
from ..report import PassReport
from ..shapes import infer_shapes
from ..storing import refusal

__all__ = ["SplitLowRank"]

_DEFAULT_BUDGET = 0.7
_ROWS = 4096
_MODES = ("budget", "rank", "threshold", "error")
Share = Annotated[float, Field(gt=0, lt=1)]
Weighted = Literal["Conv", "Gemm", "MatMul"]


@dataclass(frozen=True, kw_only=True)
class SplitLowRank(LayerPass):
    """Split the weights of convolutions and matrix products into two factors each.

    One of these may be given: `budget` (the share of all the model's bytes, or multiply-adds, that is left),
    `rank`, `threshold` (of singular values scaled to 0..1), `error` (the share of a layer's outputs that may
    be lost, as norms). A layer whose factors would be no smaller stays as it is. With data and `refit`,
    layers are split in order, each to give the source's outputs from what the split ones before it give.
    Factors that kernels are estimated to be slower with than with the dense weight, on the target
    `no_slower_on`, are left out; none where that is null.
    """

    budget: Share | None = None
    rank: Annotated[int, Field(ge=1)] | None = None
    threshold: Share | None = None
    error: Share | None = None
    count: Literal["bytes", "multiply-adds"] = "bytes"
    method: Literal["svd", "dense-sparse", "monarch", "auto"] = "svd"
    whiten: Literal["auto", "on", "off"] = "auto"
    damping: Annotated[float, Field(gt=0)] = 0.01
    refit: bool = True
    no_slower_on: str | None = "x86-64-v4"
    convolutions: Literal["auto", "pointwise", "separable"] = "auto"
    layers: tuple[Weighted, ...] = ("Conv", "Gemm", "MatMul")
    keep_first: bool = True
    keep_last: bool = True
    min_elements: Annotated[int, Field(ge=1)] = 1024
    stage: ClassVar[str] = "compress"
    exact: ClassVar[bool] = False
    calibrated: ClassVar[bool] = True
    layer_options: ClassVar[tuple[str, ...]] = (
        "skip",
        "rank",
        "damping",
        "method",
        "convolutions",
        "keep_first",
        "keep_last",
        "min_elements",
    )

    def __post_init__(self) -> None:
        """Check that one way to choose ranks is given."""
        super().__post_init__()
        given = [name for name in _MODES if getattr(self, name) is not None]
        if len(given) > 1 and set(given) != {"budget", "rank"}:
            raise OptionError(
                "ranks are chosen in one way",
                where=self.pass_name(),
                expected="one of " + ", ".join(_MODES),
                got=", ".join(given),
            )
        if self.method != "svd" and {"rank", "threshold"} & set(given):
            raise OptionError(
                f"the factors of {self.method} have more sizes than a rank",
                where=self.pass_name(),
                expected="budget or error",
                got=", ".join(given),
            )

    def check(self, model: ir.Model) -> None:
        """Names must match layers, and `whiten: on` needs data."""
        super().check(model)
        if self.no_slower_on is not None:
            find_target(self.no_slower_on)
        if self.whiten == "on" and self.context.calibration is None:
            raise OptionError(
                "there is no calibration data to whiten with",
                where=f"{self.pass_name()}: whiten",
                expected="sample inputs, or whiten: auto",
                advice="give some with --calibrate",
            )

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Split in place; each layer is changed, or refused with a reason."""
        if self.count == "multiply-adds" or self.method in ("monarch", "auto"):
            infer_shapes(model)
        groups = self._groups(model, report)
        sized = [self._sized(*found) for found in zip(groups, self._curves(model, groups), strict=True)]
        picks = self._picks(model, groups, sized, report)
        for group, layer, pick in zip(groups, sized, picks, strict=True):
            if pick is None:
                for reader in group.layers:
                    refuse(report, reader.node, _why_dense(layer))
        chosen = [(group, pick) for group, pick in zip(groups, picks, strict=True) if pick is not None]
        if self.refit and self._data is not None:
            self._split_in_order(model, chosen, report)
        else:
            self._split_at_once(model, chosen, report)

    def _split_at_once(
        self, model: ir.Model, chosen: Sequence[tuple[Group, Pick]], report: PassReport
    ) -> None:
        found = problems(model, [group for group, _ in chosen], self._data, _ROWS)
        items = (
            (problem, pick.family, pick.size, pick.curve.basis)
            for problem, (_, pick) in zip(found, chosen, strict=True)
        )
        made = self.context.map(_factorise, items, [group.label for group, _ in chosen])
        # Rows are read from the model while factors are made, so it changes only when all are there.
        for (group, pick), factors in zip(chosen, list(made), strict=True):
            _split(model, group, pick, factors, report)

    def _split_in_order(
        self, model: ir.Model, chosen: Sequence[tuple[Group, Pick]], report: PassReport
    ) -> None:
        """Factors of a layer are made for what the layers before it give when they are split already."""
        assert self._data is not None
        pairs = pairs_of_rows(self._data, model, [group for group, _ in chosen], _ROWS)
        labels = [group.label for group, _ in chosen]
        for (group, pick), (rows, originals) in zip(chosen, self.context.each(pairs, labels), strict=True):
            problem = make_problem(group, rows, originals)
            _split(model, group, pick, _factorise(problem, pick.family, pick.size, None), report)

    def _groups(self, model: ir.Model, report: PassReport) -> list[Group]:
        """Layers that may be split, those that read the same weight together."""
        found = weighted_layers(model)
        self.check_names(found)
        first, last = first_layers(model, found), last_layers(model, found)
        report.matched = len(found)
        at = {layer.node: self.at(layer.node) for layer in found}
        reasons = {
            layer.node: at[layer.node]._refusal(layer, layer.node in first, layer.node in last)
            for layer in found
        }
        taken = list[Layer]()
        for layer in found:
            if reason := reasons[layer.node] or _refused_reader(layer, reasons):
                refuse(report, layer.node, reason)
            else:
                taken.append(layer)
        return group_layers(taken, {node: settings.damping for node, settings in at.items()})

    def _refusal(self, layer: Layer, first: bool, last: bool) -> str:
        reasons = (
            (self.skip, "the recipe skips it"),
            (layer.node.op_type not in self.layers, f"the recipe splits {', '.join(self.layers)} only"),
            (layer.groups > 1, f"a convolution in {layer.groups} groups has few weights for each output"),
            (bool(text := layer.reason_not_constant()), text),
            (self.keep_first and first, "a first layer, which stays as it is"),
            (self.keep_last and last, "a last layer, which stays as it is"),
        )
        if reason := next((text for holds, text in reasons if holds), ""):
            return reason
        tensor = layer.weight.const_value
        assert tensor is not None
        if tensor.dtype != ir.DataType.FLOAT:
            return f"its weights are {tensor.dtype.name}, not float32"
        if tensor.size < self.min_elements:
            return f"{tensor.size} weights are too few, the least is {self.min_elements}"
        return ""

    @property
    def _data(self) -> Calibration | None:
        return self.context.calibration if self.whiten != "off" else None

    def _curves(self, model: ir.Model, groups: Sequence[Group]) -> Iterator[list[Curve]]:
        kinds = [self.at(group.layers[0].node)._families(model, group) for group in groups]
        items = zip(problems(model, groups, self._data, _ROWS), kinds, strict=True)
        yield from self.context.map(_curves, items, [group.label for group in groups])

    def _families(self, model: ir.Model, group: Group) -> tuple[str, ...]:
        """What a layer may become."""
        windows = {"pointwise": ("svd",), "separable": ("separable",), "auto": ("svd", "separable")}
        plain = windows[self.convolutions] if len(group.kernel) == 2 and min(group.kernel) > 1 else ("svd",)
        kinds = {"svd": plain, "auto": (*plain, "dense-sparse", "monarch")}.get(self.method, (self.method,))
        return tuple(
            kind
            for kind in kinds
            if not (kind == "monarch" and any(why_not_by_blocks(layer) for layer in group.layers))
            and not (kind == "dense-sparse" and refusal(group.layers[0], model))
        )

    def _sized(self, group: Group, curves: Sequence[Curve]) -> Sized:
        kept = [curve for c in curves if (curve := c.below(4 * group.work, group.work)) is not None]
        if self.no_slower_on is not None:
            reader, target = group.layers[0], self.no_slower_on
            kept = [curve for c in kept if (curve := no_slower(c, reader, target)) is not None]
        if self.count == "bytes":
            return Sized(kept, [curve.nbytes for curve in kept], 4 * group.work)
        return Sized(kept, [group.pixels * curve.work for curve in kept], group.pixels * group.work)

    def _picks(
        self, model: ir.Model, groups: Sequence[Group], sized: Sequence[Sized], report: PassReport
    ) -> list[Pick | None]:
        if self.threshold is not None:
            return [by_threshold(layer, self.threshold) for layer in sized]
        if self.error is not None:
            return [by_error(layer, self.error) for layer in sized]
        ranks = [self.at(group.layers[0].node).rank for group in groups]
        fixed = {i: by_rank(sized[i], rank) for i, rank in enumerate(ranks) if rank is not None}
        free = [i for i, rank in enumerate(ranks) if rank is None]
        share = _DEFAULT_BUDGET if self.budget is None else self.budget
        total = weight_bytes(model) if self.count == "bytes" else multiply_adds(weighted_layers(model))
        saved = sum(sized[i].dense - pick.cost for i, pick in fixed.items() if pick is not None)
        others = total - saved - sum(sized[i].dense for i in free)
        found = allocate([sized[i] for i in free], int(share * total) - others)
        picks = fixed | dict(zip(free, found, strict=True))
        left = others + sum(sized[i].dense if (p := picks[i]) is None else p.cost for i in free)
        if free and left > share * total:
            report.notes.append(
                f"{left / total:.1%} of the {self.count} are left: no layer can be split further"
            )
        return [picks[i] for i in range(len(groups))]


def _refused_reader(layer: Layer, reasons: Mapping[ir.Node, str]) -> str:
    """Why a layer with the same weight stays, so that this one must."""
    for use in layer.weight.uses():
        if text := reasons.get(use.node):
            return f"it shares its weights with {use.node.name}: {text}"
    return ""


def _why_dense(layer: Sized) -> str:
    if not layer.curves:
        return "factors of any size would be no smaller, or it has no such factors"
    return "other layers lose less for what they save"


def _curves(problem: Problem, families: Sequence[str]) -> list[Curve]:
    return [curve for name in families if (curve := find_family(name).curve(problem)) is not None]


def _factorise(problem: Problem, family: str, size: tuple[int, ...], basis: Single | None) -> AnyFactors:
    return find_family(family).factorise(problem, size, basis)


def _split(model: ir.Model, group: Group, pick: Pick, factors: AnyFactors, report: PassReport) -> None:
    before = 4 * group.work
    text = f"{pick.family} {'x'.join(map(str, pick.size))}, {pick.error**0.5:.1%} of its outputs lost"
    change(report, group.layers[0].node, text, before, factors.nbytes)
    for reader in group.layers[1:]:
        change(report, reader.node, f"shares the factors of {group.label}")
    split_layers(model, group.layers, factors)
