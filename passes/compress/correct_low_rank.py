"""What compression took from a weight is given back by a product of low rank beside it.

    y = MatMul(x, PaletteDecode(...))
    y = Add(MatMul(x, PaletteDecode(...)), MatMul(MatMul(x, U), V))    U [K, r], V [r, N]

U V is the best approximation of the difference between the source's weight and the decoded one (LoRC, Yao et
al. 2023, arXiv:2307.09782): in the outputs of the layer where there is calibration data, else in the weights.
Of a convolution, U keeps the window and V is 1 x 1. The pass runs behind those that compress.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import onnx_ir as ir
from pydantic import Field

from gossamer.kernels.formats.base import Array
from gossamer.runtime.errors import ModelError

from ..base import change, node_label, refuse
from ..layers import Layer, LayerPass, weighted_layers
from ..low_rank.factors import Factors
from ..low_rank.families import svd
from ..low_rank.problem import Problem
from ..low_rank.rewriting import add_product
from ..report import PassReport
from ..stored_weights import array_of

__all__ = ["CorrectLowRank"]

_ROWS = 4096


@dataclass(frozen=True, kw_only=True)
class CorrectLowRank(LayerPass):
    """Add a product of rank `rank` to each layer whose weights other passes have changed.

    A layer stays as it is where weight and product would together be no smaller than the source's weight.
    """

    rank: Annotated[int, Field(ge=1)] = 8
    damping: Annotated[float, Field(gt=0)] = 0.01
    stage: ClassVar[str] = "compress"
    exact: ClassVar[bool] = False
    calibrated: ClassVar[bool] = True
    compares: ClassVar[bool] = True
    layer_options: ClassVar[tuple[str, ...]] = ("skip", "rank", "damping")

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Add in place; each layer is changed, or refused with a reason."""
        found = weighted_layers(model)
        self.check_names(found)
        report.matched = len(found)
        source = self.context.source
        before = {} if source is None else {at.node.name: at for at in weighted_layers(source)}
        taken = list[Layer]()
        for layer in found:
            if reason := self.at(layer.node)._refusal(layer, before.get(layer.node.name)):
                refuse(report, layer.node, reason)
            else:
                taken.append(layer)
        labels = [node_label(layer.node) for layer in taken]
        made = self.context.map(_correction, self._problems(model, taken, before), labels)
        # Rows are read from the model while products are made, so it changes only when all are there.
        for layer, (factors, text) in zip(taken, list(made), strict=True):
            add_product(model, layer, factors)
            change(report, layer.node, text, 0, factors.nbytes)

    def _refusal(self, layer: Layer, original: Layer | None) -> str:
        if self.skip:
            return "the recipe skips it"
        if layer.groups > 1:
            return f"a convolution in {layer.groups} groups has few weights for each output"
        if original is None or original.weight.const_value is None:
            return "the model had no constant weights of this name before it was compressed"
        if tuple(original.weight.const_value.shape.numpy()) != _shape(layer):
            return "its weights had another shape before they were compressed"
        weight = _weight(original)
        outputs, depth = len(weight), weight.size // len(weight)
        changed, nbytes = _now(layer)
        if np.array_equal(changed, weight):
            return "its weights are what they were"
        if self.rank >= min(outputs, depth) or nbytes + 4 * self.rank * (outputs + depth) >= weight.nbytes:
            return f"with a product of rank {self.rank} it would be no smaller than before"
        return ""

    def _problems(
        self, model: ir.Model, layers: Sequence[Layer], before: Mapping[str | None, Layer]
    ) -> Iterator[tuple[Problem, int]]:
        data = self.context.calibration
        rows = None if data is None else data.rows(model, layers, _ROWS)
        for layer in layers:
            settings = self.at(layer.node)
            lost = _weight(before[layer.node.name]) - _now(layer)[0]
            seen = None if rows is None else next(rows)
            yield Problem(lost, seen, damping=settings.damping), settings.rank


def _correction(problem: Problem, rank: int) -> tuple[Factors, str]:
    """The product, and how much of what was lost it leaves."""
    found = svd.directions(problem)
    factors = svd.factorise(problem, (rank,), found.basis)
    return factors, f"rank {rank} gives back {1 - found.errors[rank - 1] ** 0.5:.1%} of what was lost"


def _weight(layer: Layer) -> Array:
    """Outputs first."""
    tensor = layer.weight.const_value
    assert tensor is not None
    return np.asarray(layer.outputs_first(tensor.numpy()), np.float32)


def _now(layer: Layer) -> tuple[Array, int]:
    """The layer's weights as they are stored now, outputs first, and their bytes."""
    if layer.weight.const_value is not None:
        return _weight(layer), layer.weight.const_value.nbytes
    found = array_of(layer.weight)
    if found is None:
        raise ModelError("nothing says what its weights are", where=node_label(layer.node))
    return np.asarray(layer.outputs_first(found[0]), np.float32), found[1]


def _shape(layer: Layer) -> tuple[int, ...]:
    assert layer.weight.shape is not None
    return tuple(layer.weight.shape.numpy())
