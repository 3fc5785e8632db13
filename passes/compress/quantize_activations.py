"""Layers whose weights are integers already get integer inputs: activations become int8, by Q and DQ nodes.

    Conv(x, DQ(W8), b)
    Conv(DQ(Q(x)), DQ(W8), DQ(b32))

For weights of int8 with one scale for each output, such as `quantize-weights` gives with int4-in-int8: any
runtime runs the result, those that know the pattern multiply integers. Where Q and DQ are put says
passes/quantizing/placement.py, how ranges are chosen passes/quantizing/ranges.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from pydantic import Field

from gossamer.runtime.errors import OptionError

from ..base import change, refuse
from ..layers import Layer, LayerPass, decoder, weighted_layers
from ..quantizing.grid import Dtype
from ..quantizing.inserting import quantize_bias, quantize_value
from ..quantizing.placement import Coverage, place
from ..quantizing.plan import Activations
from ..quantizing.ranges import Method
from ..quantizing.statistics import measure
from ..report import PassReport
from ..shapes import infer_shapes

__all__ = ["QuantizeActivations"]


@dataclass(frozen=True, kw_only=True)
class QuantizeActivations(LayerPass):
    """Give layers of int8 weights inputs of `activations`, in ranges measured on calibration data.

    The options are those of `quantize`.
    """

    activations: Dtype = "uint8"
    symmetric: bool = False
    method: Method = "squared-error"
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    coverage: Coverage = "stored"
    stage: ClassVar[str] = "compress"
    exact: ClassVar[bool] = False
    calibrated: ClassVar[bool] = True
    layer_options: ClassVar[tuple[str, ...]] = ("skip",)

    def check(self, model: ir.Model) -> None:
        """There must be data, and names that exist."""
        super().check(model)
        if self.context.calibration is None:
            raise OptionError(
                "static quantisation measures ranges on sample inputs",
                where=self.pass_name(),
                expected="--calibrate FILE.npz|DIR",
                got="nothing",
            )

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Quantise in place; each layer is changed, or refused with a reason."""
        infer_shapes(model)
        layers = weighted_layers(model)
        self.check_names(layers)
        report.matched = len(layers)
        found = dict[ir.Node, npt.NDArray[np.float32]]()
        for layer in layers:
            scale = None if self.at(layer.node).skip else _scale(layer)
            if self.at(layer.node).skip:
                refuse(report, layer.node, "the recipe skips it")
            elif scale is None:
                refuse(report, layer.node, "its weights are not int8 with one scale for each output")
            else:
                found[layer.node] = scale
        own = [layer for layer in layers if layer.node in found]
        if own:
            self._quantize(model, own, found)
        for layer in own:
            change(report, layer.node, f"reads {self.activations}")

    def _quantize(
        self, model: ir.Model, layers: list[Layer], scales: dict[ir.Node, npt.NDArray[np.float32]]
    ) -> None:
        data = self.context.calibration
        assert data is not None
        how = Activations(self.activations, self.symmetric, self.method, self.percentile, self.coverage)
        placement = place(model, [layer.node for layer in layers], self.coverage)
        grids = how.grids(placement, measure(model, list(placement.readers), data).histograms)
        read = {
            layer.node: grids.get(str(layer.node.inputs[0].name)) for layer in layers if layer.node.inputs[0]
        }
        for value, readers in placement.readers.items():
            grid = grids.get(str(value.name))
            if grid is not None:
                name = str(placement.root(value).name)
                quantize_value(
                    model.graph,
                    value,
                    sorted(readers, key=lambda use: (str(use[0].name), use[1])),
                    grid,
                    name,
                )
        for layer in layers:
            grid = read[layer.node]
            if grid is not None:
                quantize_bias(model.graph, layer, float(grid.scale), scales[layer.node])


def _scale(layer: Layer) -> npt.NDArray[np.float32] | None:
    """Scales of the outputs [O]; None where the weight is not stored so."""
    node = decoder(layer.weight)
    if node is None or node.op_type != "DequantizeLinear" or node.outputs[0] is not layer.weight:
        return None
    codes, scale = node.inputs[0], node.inputs[1]
    if len(node.inputs) > 2 or codes is None or scale is None or codes.dtype != ir.DataType.INT8:
        return None
    cast = scale.producer()
    held = cast.inputs[0] if cast is not None and cast.op_type == "Cast" else scale
    if held is None or held.const_value is None or "block_size" in node.attributes:
        return None
    values = held.const_value.numpy().astype(np.float32)
    return values if values.ndim == 1 else None
