"""Weights become stacks of blocks, each a sign for every weight times a low rank: the first ones do alone.

    Conv(x, W)            W float32 [O, I, kh, kw]
    Conv(x, BitStackDecode(signs, left, right, columns, order, shape))

BitStack (arXiv:2410.23918). Each block brings a weight nearer to what it was. The blocks of all layers have
an order, by what the layer's outputs gain on calibration data for each byte (without data, its weights): a
compiled model loads as many of them as a budget allows (`--budget-mb`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, ClassVar

import numpy as np
import onnx_ir as ir
from pydantic import Field

from ..activations import weights_and_rows
from ..base import change, node_label
from ..bit_stacking import block_bytes, block_rank, load_order, stack_blocks
from ..layers import Layer, LayerPass, weighted_layers
from ..report import PassReport
from ..storing import Stored, refusal, store_weight

__all__ = ["StackBits"]

_ROWS = 1024  # that a layer reads, of the calibration data


@dataclass(frozen=True, kw_only=True)
class StackBits(LayerPass):
    """Store weights as stacks of `blocks` blocks in the format bit-stack, where that is smaller.

    The rank of a block is `rank`, or less where its factors would take more than half a bit for each weight.
    """

    blocks: Annotated[int, Field(ge=1, le=64)] = 6
    rank: Annotated[int, Field(ge=1, le=256)] = 16
    min_elements: Annotated[int, Field(ge=0)] = 1024
    stage: ClassVar[str] = "compress"
    exact: ClassVar[bool] = False
    calibrated: ClassVar[bool] = True
    layer_options: ClassVar[tuple[str, ...]] = ("skip", "blocks", "rank", "min_elements")

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Stack in place; each layer is changed, or refused with a reason."""
        layers = weighted_layers(model)
        self.check_names(layers)
        report.matched = len(layers)
        found = self.chosen(layers, report, lambda at: self.at(at.node)._refusal(at, model), "stacked")
        self._stack(model, found, report)

    def _stack(self, model: ir.Model, layers: list[Layer], report: PassReport) -> None:
        names = [node_label(layer.node) for layer in layers]
        stacks = list(self.context.map(stack_blocks, self._work(model, layers), names))
        sizes = [
            block_bytes(stack.shape[0], prod(stack.shape[1:]), stack.blocks[0][1].shape[1])
            for stack in stacks
        ]
        orders = load_order([stack.errors for stack in stacks], sizes)
        for layer, stack, order in zip(layers, stacks, orders, strict=True):
            tensor = layer.weight.const_value
            assert tensor is not None
            stored = Stored("bit-stack", stack.parts(order))
            detail = f"{len(stack.blocks)} blocks of rank {stack.blocks[0][1].shape[1]}, "
            detail += f"{stored.bits_per_weight(tensor.size):.2f} bits per weight, "
            detail += (
                f"errors of 1 and all blocks {stack.errors[1] ** 0.5:.3f} and {stack.errors[-1] ** 0.5:.3f}"
            )
            change(report, layer.node, detail, tensor.nbytes, stored.nbytes)
            store_weight(model, layer, stored, stack.shape)

    def _work(self, model: ir.Model, layers: list[Layer]) -> Iterator[tuple[Any, ...]]:
        """Arguments of `stack_blocks` for each layer; a convolution in groups has no rows."""
        read = weights_and_rows(self.context.calibration, model, layers, _ROWS)
        for layer, (weight, rows) in zip(layers, read, strict=True):
            settings = self.at(layer.node)
            yield weight, rows, settings.blocks, settings.rank

    def _refusal(self, layer: Layer, model: ir.Model) -> str:
        if self.skip:
            return "the recipe skips it"
        if text := refusal(layer, model):
            return text
        tensor = layer.weight.const_value
        assert tensor is not None
        if tensor.size < self.min_elements:
            return f"{tensor.size} weights are too few, the least is {self.min_elements}"
        if not np.isfinite(tensor.numpy()).all():
            return "its weights are not all finite"
        shape = layer.outputs_first(tensor.numpy()).shape
        outputs, inputs = shape[0], prod(shape[1:])
        stored = self.blocks * block_bytes(outputs, inputs, block_rank(outputs, inputs, self.rank))
        if stored >= tensor.nbytes:
            return f"{self.blocks} blocks would take {stored} bytes, dense takes {tensor.nbytes}"
        return ""
