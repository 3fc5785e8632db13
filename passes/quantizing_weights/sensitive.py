"""Which layers are worth more bits: those whose rounding changes the model's outputs most, for their size.

Each layer is rounded on its own, all others as they are, and the outputs' error on sample inputs is measured.
Layers of the largest error for each weight come first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from ..budget.sensitivity import sensitivity
from ..layers import Layer

__all__ = ["most_sensitive"]

Feeds = Mapping[str, npt.NDArray[np.generic]]
_SAMPLES = 32


def most_sensitive(
    model: ir.Model,
    layers: Sequence[Layer],
    rounded: Iterable[npt.NDArray[np.float32]],
    feeds: Sequence[Feeds],
    share: float,
) -> set[Layer]:
    """Layers that hold at most `share` of all weights; `rounded` are those of `layers`, outputs first."""
    sizes = {layer: _size(layer) for layer in layers}
    errors = dict[Layer, float]()
    with sensitivity(model, layers, list(_first(feeds))) as watch:
        for layer, weight in zip(layers, rounded, strict=True):
            held = np.ascontiguousarray(layer.outputs_first(weight))
            errors[layer] = watch.error(str(layer.weight.name), held)
    left = share * sum(sizes.values())
    chosen = set[Layer]()
    for layer in sorted(layers, key=lambda each: -errors[each] / sizes[each]):
        if sizes[layer] <= left:
            chosen.add(layer)
            left -= sizes[layer]
    return chosen


def _size(layer: Layer) -> int:
    tensor = layer.weight.const_value
    assert tensor is not None
    return int(tensor.size)


def _first(feeds: Sequence[Feeds]) -> Iterator[Feeds]:
    """Feeds spread over all, that hold about so many samples, counted along their first axis."""
    rows = max(1, len(next(iter(feeds[0].values()))))
    step = max(1, len(feeds) * rows // _SAMPLES)
    yield from feeds[::step] if step < len(feeds) else feeds[:1]
