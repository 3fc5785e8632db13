"""Weights become indices of a few bits into small tables of values: palettes.

    Conv(x, W)            W float32 [O, I, kh, kw]
    Conv(x, PaletteDecode(W.indices, W.lut, W.lut_scale, W.scale, W.shape, W.form))

Tables are chosen by k-means: exactly for single weights, from a seed for vectors of them
(passes/clustering). With calibration data, the distance is weighted by the second moment of the input that a
weight meets, and errors of one input are made up for by others (passes/clustering/compensation.py); without
it, by what most layers' inputs have in common (passes/clustering/inputs.py). A MatMul weight [K, N] is stored
as its transpose. Weights that `prune` has emptied keep their zeros: the palette is
then that of the blocks that are left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import repeat
from math import prod
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from pydantic import Field

from gossamer.kernels.formats.base import Array
from gossamer.runtime.errors import OptionError

from ..base import change, node_label, refuse
from ..clustering.fitting import Settings
from ..clustering.inputs import Assumed, Inputs, Measured
from ..clustering.storing import Clustered, cluster_weight, palette_bytes, sparse_block
from ..layers import Layer, LayerPass, first_layers, last_layers, weighted_layers
from ..lookup_tables import LookupTable, lookup_tables
from ..report import PassReport
from ..storing import refusal, store_weight
from ..value_signs import is_rectified

__all__ = ["ClusterWeights"]

Weighted = Literal["Conv", "Gemm", "MatMul", "Gather"]
Bits = Annotated[int, Field(ge=1, le=8)]
Size = Annotated[int, Field(ge=1)]
_GROUP, _BLOCK = 32, 128


@dataclass(frozen=True, kw_only=True)
class ClusterWeights(LayerPass):
    """Cluster the weights of convolutions and matrix products, and tables that are looked up.

    `bits` is the width of an index, `vector` how many weights (outputs) one index stands for, `codebooks` how
    many tables are summed. `granularity` is what shares a table: the `tensor`, a `group` of `group_size`
    outputs, or a `block` of `group_size` outputs x `block_size` inputs. `channel_scale` gives each output a
    float16 factor. `lut` is the type of the tables' entries. `first_bits` and `last_bits` are for the layers
    that see the model's inputs and give its outputs, `depthwise_bits` for convolutions of one channel a
    group, which have few weights for each output. `compensate` balances errors between inputs, where there is
    calibration data by `samples` rows that each layer reads; `damping` is the share of the mean second moment
    that is added to each. The same `seed` gives the same tables. `layers` may name Gather too: embeddings,
    their rows in place of outputs.
    """

    bits: Bits = 4
    granularity: Literal["tensor", "group", "block"] = "tensor"
    group_size: Size | None = None
    block_size: Size | None = None
    vector: Literal[1, 2, 4, 8] = 1
    codebooks: Annotated[int, Field(ge=1, le=4)] = 1
    channel_scale: bool = False
    lut: Literal["float16", "float32", "int8"] = "float16"
    layers: tuple[Weighted, ...] = ("Conv", "Gemm", "MatMul")
    first_bits: Bits | None = None
    last_bits: Bits | None = None
    depthwise_bits: Bits | None = None
    compensate: bool = True
    damping: Annotated[float, Field(gt=0, le=1)] = 0.01
    samples: Annotated[int, Field(ge=16, le=65536)] = 4096
    min_elements: Annotated[int, Field(ge=0)] = 1024
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    stage: ClassVar[str] = "compress"
    exact: ClassVar[bool] = False
    calibrated: ClassVar[bool] = True
    layer_options: ClassVar[tuple[str, ...]] = (
        "skip",
        "bits",
        "granularity",
        "group_size",
        "block_size",
        "vector",
        "codebooks",
        "channel_scale",
        "lut",
        "compensate",
        "damping",
        "min_elements",
    )

    def __post_init__(self) -> None:
        """Check that the options go together."""
        super().__post_init__()
        for name, needs in (("group_size", ("group", "block")), ("block_size", ("block",))):
            if getattr(self, name) is not None and self.granularity not in needs:
                raise OptionError(
                    f"{name} needs tables for parts of the weight",
                    where=self.pass_name(),
                    expected=f"granularity {' or '.join(needs)}",
                    got=self.granularity,
                )
        if (self.group_size or _GROUP) % self.vector:
            raise OptionError(
                "codewords do not fill a group",
                where=self.pass_name(),
                expected=f"group_size of a multiple of {self.vector}",
                got=self.group_size,
            )

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Cluster in place, several layers at a time; each is changed, or refused with a reason."""
        found = self._found(model)
        self.check_names(found)
        report.matched = len(found)
        chosen, shared = self._chosen(model, found, report)
        layers = list(chosen)
        names = [node_label(layer.node) for layer in layers]
        # All are clustered before the first is stored: calibration must see the model as it was.
        results = list(self.context.map(cluster_weight, self._items(model, chosen), names))
        for layer, result in zip(layers, results, strict=True):
            tensor = layer.weight.const_value
            assert tensor is not None
            shape = tuple(int(size) for size in layer.outputs_first(tensor.numpy()).shape)
            detail = _detail(result, tensor.size)
            change(report, layer.node, detail, tensor.nbytes, result.stored.nbytes)
            store_weight(model, layer, result.stored, shape)
        for layer in shared:
            change(report, layer.node, "shares weights that are clustered")

    def check(self, model: ir.Model) -> None:
        """Names and patterns must match layers or tables."""
        self.check_names(self._found(model))

    def _found(self, model: ir.Model) -> list[Layer]:
        tables = lookup_tables(model) if "Gather" in self.layers else []
        return [*weighted_layers(model), *tables]

    def settings(self, bits: int | None = None) -> Settings:
        """The options as those of one weight, with `bits` in place of its own."""
        group = None if self.granularity == "tensor" else self.group_size or _GROUP
        block = self.block_size or _BLOCK if self.granularity == "block" else None
        return Settings(
            self.bits if bits is None else bits,
            self.vector,
            self.codebooks,
            group,
            block,
            self.channel_scale,
            self.lut,
            self.compensate,
            self.damping,
            self.seed,
        )

    def _chosen(
        self, model: ir.Model, found: list[Layer], report: PassReport
    ) -> tuple[dict[Layer, Settings], list[Layer]]:
        """Layers to cluster, and layers that share their weights; others are refused."""
        first, last = first_layers(model, found), last_layers(model, found)
        chosen, shared, weights = dict[Layer, Settings](), list[Layer](), set[ir.Value]()
        for layer in found:
            own = self.at(layer.node)
            settings = own.settings(self._special_bits(layer, layer.node in first, layer.node in last))
            if layer.weight in weights:
                shared.append(layer)
            elif reason := own._refusal(layer, model) or _weight_refusal(layer, settings):
                refuse(report, layer.node, reason)
            else:
                chosen[layer] = settings
                weights.add(layer.weight)
        return chosen, shared

    def _special_bits(self, layer: Layer, first: bool, last: bool) -> int | None:
        """The bits of a layer for its place or kind, the most of two; none where it is given its own."""
        if self._gives_bits(layer.node):
            return None
        shape = layer.weight.shape
        depthwise = layer.groups > 1 and shape is not None and shape[1] == 1
        options = ((first, self.first_bits), (last, self.last_bits), (depthwise, self.depthwise_bits))
        return max((bits for holds, bits in options if holds and bits is not None), default=None)

    def _gives_bits(self, node: ir.Node) -> bool:
        """Whether the overrides name bits for `node`: they are nearer than what holds for its kind."""
        named = [
            options
            for pattern, options in self.nodes.items()
            if node.name == pattern or fnmatchcase(node.name or "", pattern)
        ]
        return any("bits" in options for options in (self.operators.get(node.op_type, {}), *named))

    def _refusal(self, layer: Layer, model: ir.Model) -> str:
        if self.skip:
            return "the recipe skips it"
        if layer.node.op_type not in self.layers:
            return f"the recipe clusters {', '.join(self.layers)} only"
        if text := refusal(layer, model):
            return text
        tensor = layer.weight.const_value
        assert tensor is not None
        if tensor.size < self.min_elements:
            return f"{tensor.size} weights are too few, the least is {self.min_elements}"
        return ""

    def _items(self, model: ir.Model, chosen: dict[Layer, Settings]) -> Iterator[tuple[Any, ...]]:
        """Arguments of `cluster_weight` for each layer, made when they are asked for."""
        data = self.context.calibration
        reading = [layer for layer in chosen if not isinstance(layer, LookupTable)]
        rows = data.rows(model, reading, self.samples) if data is not None else repeat(None)
        for layer, settings in chosen.items():
            weight = _outputs_first(layer)
            known = None if isinstance(layer, LookupTable) else _inputs(layer, weight.shape, next(rows))
            yield weight, settings, known


def _weight_refusal(layer: Layer, settings: Settings) -> str:
    weight = _outputs_first(layer)
    if not np.isfinite(weight).all():
        return "some of its weights are not finite"
    if sparse_block(weight, settings.bits):
        if settings.vector > 1 or settings.books > 1:
            return "its zeros would not stay zero: it takes vector 1 and codebooks 1"
        return ""
    stored = palette_bytes(weight.shape, settings)
    if stored >= weight.nbytes:
        return f"it would take {stored} bytes, dense takes {weight.nbytes}"
    return ""


def _inputs(layer: Layer, shape: tuple[int, ...], rows: npt.NDArray[np.float32] | None) -> Inputs:
    kernel = shape[2:]
    if rows is not None:
        return Measured(rows, layer.groups, prod(kernel))
    dilations = tuple(layer.node.attributes.get_ints("dilations", [1] * len(kernel)))
    return Assumed(shape[1], kernel, dilations, is_rectified(layer.node.inputs[0]))


def _outputs_first(layer: Layer) -> Array:
    tensor = layer.weight.const_value
    assert tensor is not None
    return np.ascontiguousarray(layer.outputs_first(tensor.numpy()))


def _detail(result: Clustered, count: int) -> str:
    form = result.form
    books, groups, blocks, entries, _ = form.lut_shape
    tables = f"{groups * blocks} tables" if groups * blocks > 1 else "one table"
    weights = f"{form.vector} weights" if form.vector > 1 else "a weight"
    kind = f"{form.bits} bits for {weights}, {tables} of {entries}"
    if books > 1:
        kind += f" in {books} codebooks"
    if result.block:
        kind += f", {result.block}x1 blocks, {form.outputs} kept"
    bits = result.stored.bits_per_weight(count)
    return f"{kind}, {bits:.2f} bits per weight, relative squared error {result.error:.1e}"
