"""Weights of small magnitude become zero, in blocks that kernels can skip.

    pattern element   each weight for itself
    pattern RxC       blocks of R outputs x C inputs of the matrix [outputs, all the rest]
    pattern N:M       of every M consecutive input channels the N largest stay (Mishra et al. 2021,
    arXiv:2104.08378)

A block's score is its root mean square, so that `element` is plain magnitude pruning (Han et al. 2015,
arXiv:1506.02626). Which blocks go is the same on every machine: equal scores fall in the order of their
index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from gossamer.kernels.formats.base import Array
from gossamer.runtime.errors import OptionError

from ..base import change, refuse
from ..layers import Layer, LayerPass, first_layers, last_layers, weighted_layers
from ..report import PassReport
from ..sparsity_pattern import Pattern, parse_pattern

__all__ = ["Prune"]

_DEFAULT_SPARSITY = 0.5
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
Weighted = Literal["Conv", "Gemm", "MatMul"]


@dataclass(frozen=True, kw_only=True)
class Prune(LayerPass):
    """Zero the smallest weights of convolutions and matrix products.

    `sparsity` is the share that becomes zero; an N:M pattern has its own. `scope` compares blocks within a
    layer, or over all layers. `kernels` takes 1x1 convolutions only, or all. The first and the last layers
    stay dense unless `keep_first` and `keep_last` are off: they hold few weights and lose most.
    """

    sparsity: Annotated[float, Field(ge=0, lt=1)] | None = None
    pattern: str = "4x1"
    scope: Literal["layer", "global"] = "layer"
    layers: tuple[Weighted, ...] = ("Conv",)
    kernels: Literal["pointwise", "all"] = "pointwise"
    keep_first: bool = True
    keep_last: bool = True
    min_elements: Annotated[int, Field(ge=0)] = 1024
    stage: ClassVar[str] = "compress"
    exact: ClassVar[bool] = False
    layer_options: ClassVar[tuple[str, ...]] = (
        "skip",
        "sparsity",
        "pattern",
        "kernels",
        "keep_first",
        "keep_last",
        "min_elements",
    )

    def __post_init__(self) -> None:
        """Check that pattern and sparsity go together."""
        super().__post_init__()
        fixed = parse_pattern(self.pattern).fixed_sparsity
        if fixed is not None and self.sparsity is not None and abs(fixed - self.sparsity) > 1e-9:
            raise OptionError(
                f"pattern {self.pattern} has a sparsity of its own",
                where="prune",
                expected=f"{fixed:g}, or none",
                got=f"{self.sparsity:g}",
            )

    @property
    def share(self) -> float:
        """The share of weights that becomes zero."""
        fixed = parse_pattern(self.pattern).fixed_sparsity
        if fixed is not None:
            return fixed
        return _DEFAULT_SPARSITY if self.sparsity is None else self.sparsity

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Prune in place; each layer is changed, or refused with a reason."""
        found = weighted_layers(model)
        self.check_names(found)
        first, last = first_layers(model, found), last_layers(model, found)
        chosen: dict[ir.Value, Layer] = {}
        report.matched = len(found)
        for layer in found:
            settings = self.at(layer.node)
            reason = settings._refusal(layer, layer.node in first, layer.node in last)
            if not reason and layer.weight in chosen:
                reason = f"it shares the weights of {chosen[layer.weight].node.name}, which are pruned there"
            if reason:
                refuse(report, layer.node, reason)
            else:
                chosen[layer.weight] = layer
        thresholds = self._global_cuts(list(chosen.values())) if self.scope == "global" else {}
        for layer in chosen.values():
            self.at(layer.node)._prune(layer, thresholds.get(layer.weight), report)

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

    def _prune(self, layer: Layer, cut: int | None, report: PassReport) -> None:
        tensor = layer.weight.const_value
        assert tensor is not None
        pattern, weight = parse_pattern(self.pattern), tensor.numpy()
        keep = pattern.keep(layer.outputs_first(weight), self.share, cut)
        pruned = np.where(layer.outputs_first(keep), weight, np.zeros((), weight.dtype))
        layer.weight.const_value = ir.Tensor(pruned, dtype=tensor.dtype, name=layer.weight.name)
        zeros = 1 - np.count_nonzero(pruned) / pruned.size
        detail = f"{zeros:.1%} zeros in pattern {self.pattern}"
        change(report, layer.node, detail, tensor.nbytes, tensor.nbytes)

    def _global_cuts(self, layers: list[Layer]) -> dict[ir.Value, int]:
        """How many blocks each layer loses when all are ranked together; N:M ranks within its groups."""
        ranked = [at for at in layers if parse_pattern(self.at(at.node).pattern).fixed_sparsity is None]
        if not ranked:
            return {}
        patterns = {self.at(layer.node).pattern for layer in ranked}
        if len(patterns) > 1 or len({self.at(layer.node).share for layer in ranked}) > 1:
            raise OptionError(
                "a global scope ranks all layers together",
                where="prune",
                expected="one pattern and one sparsity",
            )
        pattern = parse_pattern(patterns.pop())
        scores = [_scores(pattern, layer).astype(np.float32) for layer in ranked]
        owner = np.repeat(np.arange(len(ranked)), [len(score) for score in scores])
        order = np.argsort(np.concatenate(scores), kind="stable")
        lost = np.bincount(owner[order[: round(self.share * len(order))]], minlength=len(ranked))
        return {layer.weight: int(count) for layer, count in zip(ranked, lost, strict=True)}


def _scores(pattern: Pattern, layer: Layer) -> Array:
    tensor = layer.weight.const_value
    assert tensor is not None
    return pattern.scores(layer.outputs_first(tensor.numpy())).ravel()
