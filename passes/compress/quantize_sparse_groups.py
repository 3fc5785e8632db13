"""Weights lose whole groups of inputs, and what survives is rounded to 4 bits in the same groups.

    MatMul(x, W)          W float32 [K, N]
    MatMul(x, Transpose(GroupSparseInt4Decode(quantized, scale, zero, columns, row_starts, shape)))

A group is G consecutive inputs of one output, of all K = channels x taps: W4 with row-wise group sparsity
(GQSA, arXiv:2412.17560), here in one shot, without training. With calibration data groups go by what the
layer's outputs lose with them, and later inputs make up for errors. The same on every machine but for the
rounding of sums: equal losses fall in the order of their index.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from pydantic import Field

from gossamer.kernels.formats.group_sparse_int4 import pack_groups
from gossamer.runtime.errors import OptionError

from ..activations import weights_and_rows
from ..base import change, node_label, refuse
from ..group_losses import Loss, group_losses, keep_largest
from ..grouped_rounding import inverse_factor
from ..layers import Layer, LayerPass, first_layers, last_layers, weighted_layers
from ..report import PassReport
from ..sparse_group_rounding import round_survivors
from ..storing import Stored, refusal, store_weight

__all__ = ["QuantizeSparseGroups"]

Float = npt.NDArray[np.float32]
Weighted = Literal["Conv", "Gemm", "MatMul"]
_ROWS = 4096  # that a layer reads, of the calibration data


@dataclass(frozen=True, kw_only=True)
class QuantizeSparseGroups(LayerPass):
    """Prune groups and store the others in the format group-sparse-int4.

    `sparsity` is the share of groups that goes, in each layer or, with the scope `global`, of all layers
    together, losses counted as shares of the layer's. `loss` is `auto`: second-order where there is
    calibration data, else magnitude. `compensate` lets later inputs make up for errors, given such data.
    """

    sparsity: Annotated[float, Field(ge=0, lt=1)] = 0.5
    group: Literal[16, 32, 64, 128] = 16
    scope: Literal["layer", "global"] = "layer"
    loss: Literal["auto", "magnitude", "activation", "second-order"] = "auto"
    compensate: bool = True
    layers: tuple[Weighted, ...] = ("Conv", "Gemm", "MatMul")
    keep_first: bool = True
    keep_last: bool = True
    min_elements: Annotated[int, Field(ge=0)] = 1024
    stage: ClassVar[str] = "compress"
    exact: ClassVar[bool] = False
    calibrated: ClassVar[bool] = True
    layer_options: ClassVar[tuple[str, ...]] = (
        *("skip", "sparsity", "group", "loss", "compensate", "keep_first", "keep_last", "min_elements"),
    )

    def check(self, model: ir.Model) -> None:
        """Names must match layers, and a loss by activations needs calibration data."""
        super().check(model)
        losses = {self.at(layer.node).loss for layer in weighted_layers(model)} | {self.loss}
        if self.context.calibration is None and losses & {"activation", "second-order"}:
            raise OptionError(
                "this loss needs calibration data",
                where="quantize-sparse-groups",
                got=", ".join(sorted(losses)),
                advice="give --calibrate, or loss=magnitude",
            )

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Prune and round in place; each layer is changed, or refused with a reason."""
        self.check(model)
        layers = weighted_layers(model)
        first, last = first_layers(model, layers), last_layers(model, layers)
        report.matched = len(layers)
        found = self.chosen(
            layers,
            report,
            lambda at: self.at(at.node)._refusal(at, model, at.node in first, at.node in last),
            "rounded",
        )
        names = [node_label(layer.node) for layer in found]
        shares = self._global_shares(model, found) if self.scope == "global" else None
        rounded = list(self.context.map(_compressed, self._work(model, found, shares), names))
        for layer, stored in zip(found, rounded, strict=True):
            self.at(layer.node)._store(model, layer, stored, report)

    def _store(self, model: ir.Model, layer: Layer, stored: Stored, report: PassReport) -> None:
        tensor = layer.weight.const_value
        assert tensor is not None
        if stored.nbytes >= tensor.nbytes:
            refuse(report, layer.node, f"it would take {stored.nbytes} bytes, dense takes {tensor.nbytes}")
            return
        shape = layer.outputs_first(tensor.numpy()).shape
        across = -(-int(np.prod(shape[1:])) // self.group)
        kept = len(stored.parts["scale"]) / (shape[0] * across)  # type: ignore[arg-type]
        bits = stored.bits_per_weight(tensor.size)
        detail = f"{kept:.1%} of groups of {self.group} kept, {bits:.2f} bits per weight"
        change(report, layer.node, detail, tensor.nbytes, stored.nbytes)
        store_weight(model, layer, stored, shape)

    def _work(
        self, model: ir.Model, layers: list[Layer], shares: list[float] | None
    ) -> Iterator[tuple[Any, ...]]:
        """Arguments of `_compressed` for each layer."""
        kept = shares or [1 - self.at(layer.node).sparsity for layer in layers]
        for layer, (weight, rows), share in zip(layers, self._read(model, layers), kept, strict=True):
            settings = self.at(layer.node)
            yield weight, rows, settings.group, settings._loss(rows), share, settings.compensate

    def _read(self, model: ir.Model, layers: list[Layer]) -> Iterator[tuple[Float, Float | None]]:
        """The weight of each layer, outputs first, and rows that it reads."""
        return weights_and_rows(self.context.calibration, model, layers, _ROWS)

    def _loss(self, rows: Float | None) -> Loss:
        if rows is None:  # without data, or a convolution in groups, whose channels read different inputs
            return "magnitude"
        return "second-order" if self.loss == "auto" else self.loss

    def _global_shares(self, model: ir.Model, layers: list[Layer]) -> list[float]:
        """The share of its groups that each layer keeps when all are ranked together."""
        work = (
            (weight, rows, self.at(layer.node).group, self.at(layer.node)._loss(rows))
            for layer, (weight, rows) in zip(layers, self._read(model, layers), strict=True)
        )
        losses = list(self.context.map(_relative_losses, work, [node_label(at.node) for at in layers]))
        if not losses:
            return []
        owner = np.repeat(np.arange(len(losses)), [len(loss) for loss in losses])
        order = np.argsort(np.concatenate(losses), kind="stable")[round(self.sparsity * len(owner)) :]
        kept = np.bincount(owner[order], minlength=len(losses))
        return [int(count) / len(loss) for count, loss in zip(kept, losses, strict=True)]

    def _refusal(self, layer: Layer, model: ir.Model, first: bool, last: bool) -> str:
        reasons = (
            (self.skip, "the recipe skips it"),
            (layer.node.op_type not in self.layers, f"the recipe takes {', '.join(self.layers)} only"),
            (bool(text := refusal(layer, model)), text),
            (self.keep_first and first, "a first layer, which stays as it is"),
            (self.keep_last and last, "a last layer, which stays as it is"),
        )
        found = next((text for holds, text in reasons if holds), "")
        return found or self._weight_refusal(layer)

    def _weight_refusal(self, layer: Layer) -> str:
        tensor = layer.weight.const_value
        assert tensor is not None
        if tensor.size < self.min_elements:
            return f"{tensor.size} weights are too few, the least is {self.min_elements}"
        array = tensor.numpy()
        if not np.isfinite(array).all() or np.abs(array).max() > np.finfo(np.float16).max:
            return "its weights are not all finite values of float16"
        across = -(-array.size // (self.group * layer.outputs_first(array).shape[0]))
        return f"{across} groups for each output are more than {1 << 16}" if across > 1 << 16 else ""


def _curvature(rows: Float | None, depth: int) -> tuple[Any, Any]:
    """(U, E[x^2]); None and ones without rows."""
    if rows is None:
        return None, np.ones(depth)
    second = np.mean(rows.astype(np.float64) ** 2, axis=0)
    mean = float(second.mean())
    return inverse_factor(rows), second + (0.01 * mean if mean > 0 else 1.0)  # inputs that were never seen


def _relative_losses(weight: Float, rows: Float | None, group: int, loss: Loss) -> Any:
    """Losses of all groups, flat, as shares of their sum."""
    matrix = weight.reshape(len(weight), -1)
    factor, second = _curvature(rows, matrix.shape[1])
    losses = group_losses(matrix, group, loss, factor, second).ravel()
    return losses / max(float(losses.sum()), float(np.finfo(np.float64).tiny))


def _compressed(
    weight: Float, rows: Float | None, group: int, loss: Loss, share: float, compensate: bool
) -> Stored:
    """`weight` [N, ...] with the `share` of its groups that matters most, in 4 bits."""
    matrix = weight.reshape(len(weight), -1)
    factor, second = _curvature(rows, matrix.shape[1])
    losses = group_losses(matrix, group, loss, factor, second)
    alive = keep_largest(losses, round(share * losses.size))
    groups = round_survivors(matrix, alive, group, second, factor if compensate else None)
    return Stored("group-sparse-int4", pack_groups(groups.of_shape(weight.shape)))
