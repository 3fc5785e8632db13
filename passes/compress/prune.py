"""Weights of small magnitude become zero, in blocks that kernels can skip.

    pattern element   each weight for itself
    pattern RxC       blocks of R outputs x C inputs of the matrix [outputs, all the rest]
    pattern N:M       of every M consecutive input channels the N largest stay (Mishra et al. 2021,
    arXiv:2104.08378)

A block's score is the mean of what its weights matter (passes/pruning_scores.py), so that `element` with
the score `magnitude` is plain magnitude pruning (Han et al. 2015, arXiv:1506.02626). Which blocks go is the
same on every machine: equal scores fall in the order of their index.

With calibration data the weights that stay are fitted again, in the order of the graph: a layer's outputs,
given what the layers pruned before it now make of the data, shall be those of the model before pruning. It
is done here and not in a pass of its own because only here both are known, the weights that went and those
that stayed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, repeat
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from pydantic import Field

from gossamer.runtime.errors import OptionError

from ..activations import Calibration
from ..base import change, node_label, refuse
from ..layer_bias import shift_bias, takes_bias
from ..layers import Layer, LayerPass, first_layers, last_layers, weighted_layers
from ..low_rank.problem import Problem
from ..pruning_budget import blocks_lost
from ..pruning_scores import DATA_FREE, Score
from ..pruning_weights import Pruned, Request, block_scores, prune_weight
from ..report import PassReport
from ..sparsity_pattern import parse_pattern

__all__ = ["Prune"]

_DEFAULT_SPARSITY = 0.5
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
Weighted = Literal["Conv", "Gemm", "MatMul"]


class _Job(NamedTuple):
    """A layer that is pruned, the options that hold for it, and the blocks that a global budget takes."""

    layer: Layer
    settings: Prune
    lost: int | None = None

    @property
    def name(self) -> str:
        return node_label(self.layer.node)

    @property
    def request(self) -> Request:
        own = self.settings
        return Request(parse_pattern(own.pattern), own.share, own.score, own.refit, own.rounds, self.lost)


@dataclass(frozen=True, kw_only=True)
class Prune(LayerPass):
    """Zero the weights of convolutions and matrix products that matter least.

    `sparsity` is the share that becomes zero; an N:M pattern has its own. `scope` keeps it in each layer, or
    over all layers together, of which each loses at most `max_sparsity`. `kernels` takes 1x1 convolutions
    only, or all. The first and the last layers stay dense unless `keep_first` and `keep_last` are off: they
    hold few weights and lose most. The last blocks of a layer are smaller where its outputs are no multiple
    of the pattern's rows; only a pattern that `nodes` gives one layer by its name must fit.

    `score` says what matters: weights by their `magnitude`, that `relative` to others of their output, that
    times the `activation` they meet, or the error left when others make up for them (`second-order`). `refit`
    fits the weights that stay to the outputs of the layer before pruning; `damping` is how much that holds
    them where they were. With it, blocks go in `rounds`, ranked again after each by the weights that have
    made up for the last. Without calibration data nothing is fitted, `relative` stands for the last two
    scores, and the report says so.
    """

    sparsity: Annotated[float, Field(ge=0, lt=1)] | None = None
    pattern: str = "4x1"
    scope: Literal["layer", "global"] = "layer"
    max_sparsity: Annotated[float, Field(gt=0, le=1)] = 0.95
    score: Score = "magnitude"
    refit: bool = True
    rounds: Annotated[int, Field(ge=1, le=64)] = 4
    damping: Annotated[float, Field(gt=0)] = 0.01
    layers: tuple[Weighted, ...] = ("Conv",)
    kernels: Literal["pointwise", "all"] = "pointwise"
    keep_first: bool = True
    keep_last: bool = True
    min_elements: Annotated[int, Field(ge=0)] = 1024
    stage: ClassVar[str] = "compress"
    exact: ClassVar[bool] = False
    calibrated: ClassVar[bool] = True
    layer_options: ClassVar[tuple[str, ...]] = (
        "skip",
        "sparsity",
        "pattern",
        "score",
        "refit",
        "rounds",
        "damping",
        "kernels",
        "keep_first",
        "keep_last",
        "min_elements",
    )

    def __post_init__(self) -> None:
        """Check that pattern, sparsity and its bound go together."""
        super().__post_init__()
        fixed = parse_pattern(self.pattern).fixed_sparsity
        if fixed is not None and self.sparsity is not None and abs(fixed - self.sparsity) > 1e-9:
            raise OptionError(
                f"pattern {self.pattern} has a sparsity of its own",
                where="prune",
                expected=f"{fixed:g}, or none",
                got=f"{self.sparsity:g}",
            )
        if self.scope == "global" and self.share > self.max_sparsity:
            raise OptionError(
                "no layer may lose as much as all together shall",
                where="prune: max_sparsity",
                expected=f"at least the sparsity, {self.share:g}",
                got=f"{self.max_sparsity:g}",
            )

    @property
    def share(self) -> float:
        """The share of weights that becomes zero."""
        fixed = parse_pattern(self.pattern).fixed_sparsity
        if fixed is not None:
            return fixed
        return _DEFAULT_SPARSITY if self.sparsity is None else self.sparsity

    def check(self, model: ir.Model) -> None:
        """Names must match layers, and a pattern that is given for one layer must fit it without tails."""
        super().check(model)
        for layer in weighted_layers(model):
            name, shape = layer.node.name or "", layer.weight.shape
            given = self.nodes.get(name, {}).get("pattern")
            if given is None or shape is None:
                continue
            outputs, channels = shape.numpy()[:2] if layer.rows_are_outputs else shape.numpy()[1::-1]
            reason, expected = parse_pattern(given).misfit(outputs, channels)
            if reason:
                where = f"prune: nodes: {name}: pattern"
                raise OptionError(reason, where=where, expected=expected, got=given)

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Prune in place; each layer is changed, or refused with a reason."""
        jobs = self._jobs(model, report)
        data = self.context.calibration
        if data is None and any(job.settings.refit or job.settings.score not in DATA_FREE for job in jobs):
            report.notes.append(
                "without calibration data (convert --calibrate) the weights alone decide what goes, and "
                "those that stay are not fitted again"
            )
        source = model.clone() if data is not None else model
        if self.scope == "global":
            jobs = self._with_budget(jobs, _problems(source, jobs, data))
        originals = data.rows(source, _same(source, jobs)) if data is not None else None
        for part in _parts(jobs, data):
            problems = _problems(model, part, data, originals)
            tasks = ((problem, job.request) for problem, job in zip(problems, part, strict=True))
            # all results before the first is written: rows are read from the model as it is
            for job, pruned in zip(
                part, list(self.context.map(prune_weight, tasks, [job.name for job in part])), strict=True
            ):
                _write(model, job, pruned, report)

    def _with_budget(self, jobs: Sequence[_Job], problems: Iterator[Problem]) -> list[_Job]:
        """The jobs with the blocks that each loses when all are ranked together; N:M has its own number."""
        if len({job.settings.share for job in jobs if _ranked(job)}) > 1:
            raise OptionError(
                "a global scope ranks all layers together", where="prune", expected="one sparsity"
            )
        tasks = ((problem, job.request) for problem, job in zip(problems, jobs, strict=True) if _ranked(job))
        found = list(self.context.map(block_scores, tasks, [job.name for job in jobs if _ranked(job)]))
        if not found:
            return list(jobs)
        share = next(job.settings.share for job in jobs if _ranked(job))
        scores, sizes = [scores for scores, _ in found], [sizes for _, sizes in found]
        lost = iter(blocks_lost(scores, sizes, share, self.max_sparsity))
        return [job._replace(lost=next(lost)) if _ranked(job) else job for job in jobs]

    def _jobs(self, model: ir.Model, report: PassReport) -> list[_Job]:
        """The layers that are pruned, in order; the others are refused."""
        found = weighted_layers(model)
        self.check_names(found)
        first, last = first_layers(model, found), last_layers(model, found)
        chosen: dict[ir.Value, _Job] = {}
        report.matched = len(found)
        for layer in found:
            settings = self.at(layer.node)
            reason = settings._refusal(layer, layer.node in first, layer.node in last)
            if not reason and layer.weight in chosen:
                reason = f"it shares the weights of {chosen[layer.weight].name}, which are pruned there"
            if reason:
                refuse(report, layer.node, reason)
            else:
                chosen[layer.weight] = _Job(layer, settings)
        return list(chosen.values())

    def _refusal(self, layer: Layer, first: bool, last: bool) -> str:
        shape = layer.weight.shape
        assert shape is not None
        spatial = "x".join(str(d) for d in shape[2:])
        reasons = (
            (self.skip, "the recipe skips it"),
            (layer.node.op_type not in self.layers, f"the recipe prunes {', '.join(self.layers)} only"),
            (layer.groups > 1, f"a convolution in {layer.groups} groups has few weights for each output"),
            (bool(text := layer.reason_not_constant()), text),
            (self.keep_first and first, "a first layer, which stays dense"),
            (self.keep_last and last, "a last layer, which stays dense"),
            (self.kernels == "pointwise" and any(d != 1 for d in shape[2:]), f"a {spatial} kernel, not 1x1"),
        )
        return next((text for holds, text in reasons if holds), "") or self._weight_refusal(layer)

    def _weight_refusal(self, layer: Layer) -> str:
        tensor = layer.weight.const_value
        assert tensor is not None
        if tensor.dtype not in _FLOATS:
            return f"its weights are {tensor.dtype.name}, not floating point"
        if tensor.size < max(1, self.min_elements):
            return f"{tensor.size} weights are too few, the least is {self.min_elements}"
        channels = tensor.shape.numpy()[1 if layer.rows_are_outputs else 0]
        return parse_pattern(self.pattern).refusal(channels)


def _ranked(job: _Job) -> bool:
    return parse_pattern(job.settings.pattern).fixed_sparsity is None


def _parts(jobs: Sequence[_Job], data: Calibration | None) -> Iterator[list[_Job]]:
    """Layers that are pruned side by side: all, or where they are refitted those that read the same value,
    since the others read what a layer before them gives."""
    if data is None or not any(job.settings.refit for job in jobs):
        yield list(jobs)
        return
    for _, part in groupby(jobs, key=lambda job: job.layer.node.inputs[0]):
        yield list(part)


def _same(model: ir.Model, jobs: Sequence[_Job]) -> list[Layer]:
    """The layers of a copy of the model that have the names of those in `jobs`."""
    found = {layer.node.name: layer for layer in weighted_layers(model)}
    return [found[job.layer.node.name] for job in jobs]


def _problems(
    model: ir.Model,
    jobs: Sequence[_Job],
    data: Calibration | None,
    originals: Iterator[npt.NDArray[np.float32]] | None = None,
) -> Iterator[Problem]:
    """The weight of each job and the rows that its layer reads in `model`; lazily."""
    layers = _same(model, jobs)
    rows = data.rows(model, layers) if data is not None else repeat(None)
    for job, layer, read in zip(jobs, layers, rows):  # noqa: B905  # one of them may be endless
        tensor = layer.weight.const_value
        assert tensor is not None
        weight = layer.outputs_first(tensor.numpy()).astype(np.float32, copy=False)
        first = next(originals) if originals is not None else None
        yield Problem(weight, read, first, takes_bias(layer), job.settings.damping)


def _write(model: ir.Model, job: _Job, pruned: Pruned, report: PassReport) -> None:
    layer, tensor = job.layer, job.layer.weight.const_value
    assert tensor is not None
    array = layer.outputs_first(pruned.weight).astype(tensor.numpy().dtype)
    layer.weight.const_value = ir.Tensor(array, dtype=tensor.dtype, name=layer.weight.name)
    if pruned.shift is not None:
        shift_bias(model, layer, pruned.shift)
    zeros = 1 - np.count_nonzero(array) / array.size
    detail = f"{zeros:.1%} zeros in pattern {job.settings.pattern}"
    if pruned.error is not None:
        detail += f", {pruned.error:.2%} error of outputs"
        if job.settings.refit:
            detail += f", {pruned.unfitted:.2%} before refitting"
    elif job.settings.context.calibration is not None:
        detail += ", by its weights alone: what it reads on calibration data is not finite"
    change(report, layer.node, detail, tensor.nbytes, tensor.nbytes)
