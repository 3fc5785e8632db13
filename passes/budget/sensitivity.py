"""How much the model's outputs change when one layer's weights do, by onnxruntime with weights as inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gossamer.kernels.formats import DOMAIN, format_of_operator

from ..layers import Layer
from ..reference import open_onnx, run_opened

__all__ = ["Sensitivity", "decoded", "sensitivity"]

Array = npt.NDArray[Any]


class Sensitivity:
    """Errors of the outputs on given feeds, each in units of the output's own mean square."""

    def __init__(
        self, session: Any, weights: Mapping[str, Array], feeds: Sequence[Mapping[str, Array]]
    ) -> None:
        self._session, self._weights, self._feeds = session, weights, feeds
        self._expected = [self._run(feed, {}) for feed in feeds]

    def _run(self, feed: Mapping[str, Array], changed: Mapping[str, Array]) -> list[Array]:
        outputs = run_opened(self._session, {**feed, **self._weights, **changed})
        return [array.astype(np.float64) for array in outputs if array.dtype.kind == "f"]

    def error(self, name: str, weight: Array) -> float:
        """With the weight called `name` replaced by `weight`: the mean over the outputs; infinite for NaN."""
        shares = []
        for feed, expected in zip(self._feeds, self._expected, strict=True):
            got = self._run(feed, {name: weight})
            shares += [_share(a, b) for a, b in zip(got, expected, strict=True)]
        mean = float(np.mean(shares)) if shares else 0.0
        return mean if np.isfinite(mean) else float("inf")


def _share(got: Array, expected: Array) -> float:
    scale = float(np.mean(expected**2))
    return float(np.mean((got - expected) ** 2)) / scale if scale else 0.0


@contextmanager
def sensitivity(
    model: ir.Model, layers: Sequence[Layer], feeds: Sequence[Mapping[str, Array]]
) -> Iterator[Sensitivity]:
    """For changes of the weights of `layers` on `feeds`."""
    copy = model.clone()
    names = {str(layer.weight.name) for layer in layers}
    weights = {}
    for name in names:
        value = copy.graph.initializers.pop(name)
        assert value.const_value is not None
        weights[name] = np.ascontiguousarray(value.const_value.numpy())
        value.const_value = None
        if value not in copy.graph.inputs:
            copy.graph.inputs.append(value)
    with open_onnx(copy) as session:
        yield Sensitivity(session, weights, feeds)


def decoded(value: ir.Value | None) -> Array | None:
    """The array of a constant: an initializer, what a format decodes, or its transpose. None for all else."""
    if value is None:
        return None
    node = value.producer()
    if node is None:
        return None if value.const_value is None else value.const_value.numpy()
    if node.domain == DOMAIN:
        kind = format_of_operator(node.op_type)
        parts = [decoded(part) for part in node.inputs]
        if kind is None:
            return None
        return kind.decode({k: p for k, p in zip(kind.parts, parts, strict=False) if p is not None})
    if node.op_type == "Transpose" and not node.domain:
        inner = decoded(node.inputs[0])
        perm = node.attributes.get("perm")
        return None if inner is None else np.transpose(inner, tuple(perm.as_ints()) if perm else None)
    return None
