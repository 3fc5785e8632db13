"""Weights of which at most N of every M consecutive inputs are not zero are stored as those N.

    MatMul(x, W)          W float32 [K, N], pruned in pattern 2:4
    MatMul(x, Transpose(NMDecode(W.values, W.positions, W.shape, W.group)))

Exact: the decoded weight has every value of the old one. `prune` with a pattern such as 2:4 makes weights
that fit; a weight that does not is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import Annotated, ClassVar

import numpy as np
import onnx_ir as ir
from pydantic import Field

from gossamer.kernels.bit_packing import packed_bytes
from gossamer.kernels.formats import find_format
from gossamer.kernels.formats.base import Array
from gossamer.kernels.formats.n_m import LARGEST_GROUP, most_kept, position_bits
from gossamer.runtime.errors import OptionError

from ..base import change
from ..encoding import EncodingPass
from ..layers import Layer
from ..report import PassReport
from ..storing import Stored, refusal, store_weight

__all__ = ["EncodeNM"]

_GROUPS = (4, 8, 16)
"""M that `auto` tries: of equal sizes the smaller one decodes faster."""


@dataclass(frozen=True, kw_only=True)
class EncodeNM(EncodingPass):
    """Store weights in the N:M format where that is smaller, else leave them as they are.

    `pattern` is N:M (M up to 16), or `auto`: the smallest of M = 4, 8 and 16 with the least N that holds all
    weights. Values become float16 where each of them is one exactly, unless `half` is off. `min_saving` is
    the share of its bytes that a weight must save.
    """

    pattern: Annotated[str, Field(pattern=r"^(auto|[0-9]{1,2}:[0-9]{1,2})$")] = "auto"
    half: bool = True
    min_saving: Annotated[float, Field(ge=0, lt=1)] = 0.05
    stage: ClassVar[str] = "compress"
    exact: ClassVar[bool] = True
    layer_options: ClassVar[tuple[str, ...]] = ("skip", "pattern", "half", "min_saving")

    def __post_init__(self) -> None:
        """Check the pattern."""
        super().__post_init__()
        if self.pattern != "auto":
            parse_n_m(self.pattern)

    def _refusal(self, layer: Layer, model: ir.Model) -> str:
        if self.skip:
            return "the recipe skips it"
        if text := refusal(layer, model):
            return text
        weight, dense = _weight(layer)
        kept, of = self._pattern(weight)
        most = most_kept(weight, of)
        if kept >= of or most > kept:
            return f"of {of} consecutive inputs up to {most} are not zero, so it is not {self._wanted}"
        stored = _stored_bytes(weight, kept, of, self._dtype(weight))
        if stored >= dense * (1 - self.min_saving):
            return f"as {kept}:{of} it would take {stored} bytes, dense takes {dense}"
        return ""

    @property
    def _wanted(self) -> str:
        return "N:M sparse" if self.pattern == "auto" else f"{self.pattern} sparse"

    def _pattern(self, weight: Array) -> tuple[int, int]:
        """(N, M), N = M where nothing fits."""
        if self.pattern != "auto":
            return parse_n_m(self.pattern)
        dtype = self._dtype(weight)
        found = [(max(1, most_kept(weight, of)), of) for of in _GROUPS if of <= weight.shape[1]]
        found = [(kept, of) for kept, of in found if kept < of] or [(_GROUPS[0], _GROUPS[0])]
        return min(found, key=lambda pattern: _stored_bytes(weight, pattern[0], pattern[1], dtype))

    def _dtype(self, weight: Array) -> str:
        """float16 where it loses nothing."""
        if not self.half or np.abs(weight).max() > np.finfo(np.float16).max:
            return "float32"
        return (
            "float16" if np.array_equal(weight.astype(np.float16).astype(np.float32), weight) else "float32"
        )

    def _encode(self, model: ir.Model, layer: Layer, report: PassReport) -> None:
        """Replace the weight by a call."""
        weight, dense = _weight(layer)
        (kept, of), dtype = self._pattern(weight), self._dtype(weight)
        kind = find_format("n-m")
        stored = Stored(kind.name, kind.encode(weight, kept=kept, of=of, dtype=dtype))
        detail = f"{kept}:{of} in {dtype}, {stored.bits_per_weight(weight.size):.2f} bits per weight"
        change(report, layer.node, detail, dense, stored.nbytes)
        store_weight(model, layer, stored, weight.shape)


def parse_n_m(text: str) -> tuple[int, int]:
    """(N, M) of a pattern such as 2:4. Raises OptionError.

    >>> parse_n_m("2:8")
    (2, 8)
    """
    found = re.fullmatch(r"([0-9]{1,2}):([0-9]{1,2})", text)
    kept, of = map(int, found.groups()) if found else (0, 0)
    if not 1 <= kept < of <= LARGEST_GROUP:
        raise OptionError(
            "not an N:M pattern", where=text, expected=f"N:M with 1 <= N < M <= {LARGEST_GROUP}, such as 2:4"
        )
    return kept, of


def _weight(layer: Layer) -> tuple[Array, int]:
    """The weight, outputs first, and its bytes."""
    tensor = layer.weight.const_value
    assert tensor is not None
    return np.ascontiguousarray(layer.outputs_first(tensor.numpy())), tensor.nbytes


def _stored_bytes(weight: Array, kept: int, of: int, dtype: str) -> int:
    """What `encode` would store, counted without packing."""
    count = len(weight) * prod(weight.shape[2:]) * -(-weight.shape[1] // of) * kept
    values = count * np.dtype(dtype).itemsize
    return int(values + packed_bytes(count, position_bits(of)) + 8 * (weight.ndim + 1))
