"""Channels change places, so that pruning in groups of neighbouring outputs keeps the most.

    Conv(x, W1 [64, 32, 3, 3], b1) -> Relu -> Conv(., W2 [128, 64, 1, 1])
    Conv(x, W1[p], b1[p])          -> Relu -> Conv(., W2[:, p])

A group of R outputs keeps or loses an input together (`prune` in patterns R x 1), so outputs that need the
same inputs should stand side by side (SparseByteNN's rearrangement of the whole network). What ties channels
to each other - residual sums, concatenations, depthwise kernels, norms - is followed through the graph
(`passes/channels`); the model's inputs and outputs stay as they are. Exact: only the order of sums changes,
and nothing is left to do at run time. The order of a layer's inputs does not change what its own groups of
outputs keep, so the sets of channels that change places are searched for independently, side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from gossamer.runtime.errors import OptionError

from ..base import change, node_label, refuse
from ..channels.arranging import Score, Target, kept_share, order_channels
from ..channels.axes import Positions, Ties
from ..channels.classes import ChannelSet, Classes, components
from ..channels.permuting import axis_orders, permute_constants
from ..channels.reading import read_ties
from ..layers import Layer, LayerPass, first_layers, last_layers, weighted_layers
from ..pruning_budget import blocks_lost
from ..report import PassReport
from ..shapes import infer_shapes
from ..sparsity_pattern import BlockPattern, parse_pattern

__all__ = ["RearrangeChannels"]

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
_NONE = np.empty((0, 0), np.int64)
_Ordered = tuple[ChannelSet, Positions]
Weighted = Literal["Conv", "Gemm", "MatMul"]


@dataclass(frozen=True, kw_only=True)
class RearrangeChannels(LayerPass):
    """Permute channels for pruning in R x 1 groups; the options are those of the `prune` that follows.

    `score` is what a weight counts: its square (`l2`, as in `prune`) or its magnitude (`l1`). With
    `relative` channels are ordered as if the weights of each were equally large in all: how a channel is
    scaled means little, since what reads it may undo that, and channels of small weights that are put
    together lose all of them. An order is taken only where more is kept of the weights as they are. Layers
    that are not to be pruned (`layers`, `kernels`, `keep_first`, `keep_last`, `min_elements`, `skip`) have
    no say, but their channels follow.
    """

    sparsity: Annotated[float, Field(ge=0, lt=1)] = 0.5
    pattern: str = "4x1"
    score: Score = "l2"
    relative: bool = True
    scope: Literal["layer", "global"] = "layer"
    max_sparsity: Annotated[float, Field(gt=0, le=1)] = 0.95
    layers: tuple[Weighted, ...] = ("Conv", "Gemm", "MatMul")
    kernels: Literal["pointwise", "all"] = "all"
    keep_first: bool = True
    keep_last: bool = True
    min_elements: Annotated[int, Field(ge=0)] = 1024
    stage: ClassVar[str] = "compress"
    exact: ClassVar[bool] = True
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
        """Check that the pattern is one of groups of outputs."""
        super().__post_init__()
        pattern = parse_pattern(self.pattern)
        if not isinstance(pattern, BlockPattern) or pattern.rows < 2 or pattern.columns > 1:
            raise OptionError(
                "channels are rearranged for groups of outputs only",
                where="rearrange-channels: pattern",
                expected="Rx1 with R from 2, such as 4x1",
                got=self.pattern,
            )

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Permute in place; each layer is changed, or refused with a reason."""
        infer_shapes(model)
        found = weighted_layers(model)
        self.check_names(found)
        report.matched = len(found)
        ties = read_ties(model)
        classes = Classes(ties)
        producers = self._producers(model, found, ties, classes, report)
        self._share_out(producers)
        chosen = self._search(classes.sets, producers)
        orders = self._measure(ties, chosen, producers)
        for producer in producers:
            producer.tell(report)
        report.notes += [_note(channels, producers, orders) for channels, _ in chosen]
        permute_constants(model, ties, orders)

    def _producers(
        self, model: ir.Model, found: Sequence[Layer], ties: Ties, classes: Classes, report: PassReport
    ) -> list[_Producer]:
        """The layers that have a say in the order of their outputs; the others are refused."""
        first, last = first_layers(model, found), last_layers(model, found)
        producers, seen = list[_Producer](), set[ir.Value]()
        for layer in found:
            settings = self.at(layer.node)
            output = (layer.weight, 0 if layer.rows_are_outputs else 1)
            reason = settings._refusal(layer, layer.node in first, layer.node in last)
            if not reason and layer.weight in seen:
                reason = "it shares the weights of a layer before it"
            reason = reason or classes.reason(output)
            if reason:
                refuse(report, layer.node, reason)
                continue
            seen.add(layer.weight)
            axis = ties.known(output)
            assert axis is not None
            producers.append(_Producer(layer, axis, settings._target(layer)))
        return producers

    def _target(self, layer: Layer) -> Target:
        tensor, pattern = layer.weight.const_value, parse_pattern(self.pattern)
        assert tensor is not None
        assert isinstance(pattern, BlockPattern)
        return Target(
            layer.outputs_first(tensor.numpy()), pattern.rows, self.sparsity, self.score, self.relative
        )

    def _refusal(self, layer: Layer, first: bool, last: bool) -> str:
        assert layer.weight.shape is not None
        spatial = "x".join(str(d) for d in layer.weight.shape[2:])
        reasons = (
            (self.skip, "the recipe skips it"),
            (layer.node.op_type not in self.layers, f"the recipe prunes {', '.join(self.layers)} only"),
            (layer.groups > 1, f"a convolution in {layer.groups} groups has few weights for each output"),
            (bool(text := layer.reason_not_constant()), text),
            (self.keep_first and first, "a first layer, which stays dense"),
            (self.keep_last and last, "a last layer, which stays dense"),
            (
                self.kernels == "pointwise" and any(d != 1 for d in layer.weight.shape[2:]),
                f"a {spatial} kernel",
            ),
        )
        text = next((text for holds, text in reasons if holds), "")
        tensor = layer.weight.const_value
        if text or tensor is None:
            return text
        if tensor.dtype not in _FLOATS:
            return f"its weights are {tensor.dtype.name}, not floating point"
        if tensor.size < max(1, self.min_elements):
            return f"{tensor.size} weights are too few, the least is {self.min_elements}"
        return ""

    def _share_out(self, producers: Sequence[_Producer]) -> None:
        """Where all layers are ranked together, the share of blocks that each loses, as in `prune`."""
        if self.scope == "layer" or not producers:
            return
        means, sizes = zip(*(producer.target.means() for producer in producers), strict=True)
        lost = blocks_lost(means, sizes, self.sparsity, self.max_sparsity)
        for producer, count, blocks in zip(producers, lost, means, strict=True):
            producer.target = replace(producer.target, share=count / blocks.size)

    def _search(self, sets: Sequence[ChannelSet], producers: Sequence[_Producer]) -> list[_Ordered]:
        """An order for each set of channels that layers give, one channel at a time."""
        given = [
            (channels, [p for p in producers if channels.positions.get(p.axis, _NONE).shape[-1] == 1])
            for channels in sets
        ]
        tasks = [(channels, own) for channels, own in given if own]
        items = [
            ([p.target for p in own], [channels.positions[p.axis][:, 0] for p in own])
            for channels, own in tasks
        ]
        names = [own[0].name for _, own in tasks]
        orders = self.context.map(order_channels, items, names)
        return [(channels, order) for (channels, _), order in zip(tasks, orders, strict=True)]

    def _measure(
        self, ties: Ties, chosen: Sequence[_Ordered], producers: Sequence[_Producer]
    ) -> dict[int, Positions]:
        """The order of each axis; sets whose layers would keep less than they do now stay as they are."""
        orders = axis_orders(ties, chosen)
        items = [(p.target, orders.get(p.axis, np.arange(len(p.target.weights)))) for p in producers]
        measured = self.context.map(kept_share, items, [p.name for p in producers])
        for producer, shares in zip(producers, measured, strict=True):
            producer.before, producer.after, producer.total = shares
        worse = set[int]()
        for joined in _joined([set(channels.positions) for channels, _ in chosen]):
            axes = set[int]().union(*(chosen[number][0].positions for number in joined))
            own = [p for p in producers if p.axis in axes]
            if sum(p.after for p in own) <= sum(p.before for p in own):
                worse.update(joined)
                for producer in own:
                    producer.after = producer.before
        return axis_orders(ties, [one for number, one in enumerate(chosen) if number not in worse])


@dataclass
class _Producer:
    """A layer whose outputs are ordered, and what it keeps of its weights before and after."""

    layer: Layer
    axis: int
    target: Target
    before: float = 0.0
    after: float = 0.0
    total: float = 0.0

    @property
    def name(self) -> str:
        return node_label(self.layer.node)

    def tell(self, report: PassReport) -> None:
        """Write into `report` what has become of the layer."""
        if self.after == self.before:
            refuse(report, self.layer.node, f"no order keeps more than {self._share(self.before)}")
            return
        what = f"{self.target.rows}x1 groups at {self.target.share:.0%} zeros"
        kept = f"keep {self._share(self.after)}, {self._share(self.before)} before"
        change(report, self.layer.node, f"{what} {kept}", *[self.target.weights.nbytes] * 2)

    def _share(self, kept: float) -> str:
        measure = "squares" if self.target.score == "l2" else "magnitudes"
        return f"{kept / (self.total or 1):.1%} of the sum of {measure}"


def _note(channels: ChannelSet, producers: Sequence[_Producer], orders: Mapping[int, Positions]) -> str:
    """One set of channels: how many, whose outputs they are, and what these keep."""
    own = [producer for producer in producers if producer.axis in channels.positions]
    total = sum(producer.total for producer in own) or 1.0
    before, after = (sum(values) / total for values in zip(*((p.before, p.after) for p in own), strict=True))
    moved = "keep" if any(axis in orders for axis in channels.positions) else "stay, which keeps"
    names = ", ".join(producer.name for producer in own)
    return f"{len(channels)} channels given by {names} {moved} {after:.1%}, {before:.1%} as they were"


def _joined(sets: Sequence[set[int]]) -> list[list[int]]:
    """Which of `sets` hang together by common members: lists of their numbers."""
    pairs = [(i, j) for i in range(len(sets)) for j in range(i) if sets[i] & sets[j]]
    edges = np.asarray(pairs, np.int64).reshape(-1, 2)
    roots = components(len(sets), [(edges[:, 0], edges[:, 1])])
    return [np.flatnonzero(roots == root).tolist() for root in np.unique(roots)]
