"""A few weights are kept beside a stored weight: the largest, or those that a coarse grid hurts most.

    W = base, but for the places of the outliers, which hold `values`

`base` is decoded by another format (or is dense), so that any format can have outliers. Places are told by
the gaps between them, in row-major order of the flat weight: place i is the sum of gaps 0 to i. A gap that
its type cannot hold gets one more outlier on the way, which is why `encode` may keep more than it is asked.

    base    float32 [any shape]
    gaps    uint8 or uint16 [n]      the first counts from the first weight
    values  float16 or float32 [n]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gossamer.runtime.errors import ModelError, OptionError

from .base import DOMAIN, FUNCTION_OPSET, Array, Format

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["OutliersFormat", "largest", "outlier_parts", "outlier_places"]

_FUNCTION = """
<domain: "{domain}", opset_import: ["" : {opset}]>
OutliersDecode (base, gaps, values) => (W)
{{
    all = Constant <value_ints = [-1]> ()
    axis = Constant <value_int = 0> ()
    wide = Cast <to = 7> (gaps)
    places = CumSum (wide, axis)
    kept = Cast <to = 1> (values)
    flat = Reshape (base, all)
    mixed = ScatterElements <axis = 0> (flat, places, kept)
    shape = Shape (base)
    W = Reshape (mixed, shape)
}}
"""
_GAPS = (np.uint8, np.uint16)
_VALUES = (np.float16, np.float32)
_HALF_MAX = float(np.finfo(np.float16).max)


class OutliersFormat(Format):
    """A stored weight with exact values at some places."""

    name = "outliers"
    operator = "OutliersDecode"
    parts = ("base", "gaps", "values")
    summary = "another stored weight, with float16 or float32 values at a few places"

    def encode(
        self, array: Array, *, share: float = 0.01, base: Array | None = None, **options: Any
    ) -> dict[str, Array]:
        """`base` with the values of `array` where the two differ most: the `share` of all weights.

        Both are float32 of one shape; without a base it is dense zeros.

        >>> parts = OutliersFormat().encode(np.array([[0, 9], [1, 0]], np.float32), share=0.25)
        >>> parts["gaps"].tolist(), parts["values"].tolist()
        ([1], [9.0])
        """
        if options:
            raise OptionError(
                "unknown option of outliers", expected="share, base", got=", ".join(sorted(options))
            )
        if not 0 <= share <= 1:
            raise OptionError("the share of outliers is wrong", expected="0 to 1", got=share)
        base = np.zeros_like(array) if base is None else base
        if array.dtype != np.float32 or array.size == 0 or base.shape != array.shape:
            raise OptionError(
                "outliers cannot be kept of this array",
                expected=f"float32 with elements, shaped like its base {list(base.shape)}",
                got=f"{array.dtype} {list(array.shape)}",
            )
        return {"base": base, **outlier_parts(array, largest(np.abs(array - base), share))}

    def decode(self, parts: Mapping[str, Array]) -> Array:
        """The weight: float32, shaped like its base."""
        base = parts["base"]
        places = outlier_places(parts)
        decoded = base.copy()
        decoded.reshape(-1)[places] = parts["values"].astype(np.float32)
        return decoded

    def function(self, opset: int = FUNCTION_OPSET) -> ir.Function:
        """`OutliersDecode(base, gaps, values) -> W`; its operators mean the same since opset 18."""
        import onnx
        import onnx_ir

        text = _FUNCTION.format(domain=DOMAIN, opset=opset)
        return onnx_ir.serde.deserialize_function(onnx.parser.parse_function(text))


def largest(scores: Array, share: float) -> npt.NDArray[np.bool_]:
    """Where the largest of `scores` are, the `share` of all, shaped alike; of equal ones the first."""
    count = round(share * scores.size)
    mask = np.zeros(scores.size, bool)
    if count:
        mask[np.argsort(-scores.reshape(-1), kind="stable")[:count]] = True
    return mask.reshape(scores.shape)


def outlier_parts(array: Array, mask: npt.NDArray[np.bool_]) -> dict[str, Array]:
    """`gaps` and `values` of the weights of `array` (float32) where `mask` holds, one at least.

    Of uint8 and uint16 gaps those that take fewer bytes in all. Values are float16 unless one is too large.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    places = np.flatnonzero(mask)
    if not len(places):
        places = np.zeros(1, np.int64)
    packed = [_packed(flat, _with_steps(places, np.iinfo(gap).max), gap) for gap in _GAPS]
    return min(packed, key=lambda parts: sum(part.nbytes for part in parts.values()))


def _packed(flat: Array, places: npt.NDArray[np.int64], gap: type) -> dict[str, Array]:
    values = flat[places]
    half = bool((np.abs(values) <= _HALF_MAX).all())
    gaps: Array = np.diff(places, prepend=0).astype(gap)
    return {"gaps": gaps, "values": values.astype(np.float16 if half else np.float32)}


def _with_steps(places: npt.NDArray[np.int64], longest: int) -> npt.NDArray[np.int64]:
    """`places`, and more between them, so that no gap is over `longest`."""
    gaps = np.diff(places, prepend=0)
    more = np.maximum(gaps - 1, 0) // longest
    if not more.any():
        return places
    starts = places - gaps
    owner = np.repeat(np.arange(len(places)), more)
    first = np.cumsum(more) - more
    number = np.arange(len(owner)) - first[owner] + 1
    return np.sort(np.concatenate([places, starts[owner] + number * longest]))


def outlier_places(parts: Mapping[str, Array]) -> npt.NDArray[np.int64]:
    """The places in the flat weight, ascending. Raises ModelError where the parts contradict each other."""
    base, gaps, values = (parts[name] for name in OutliersFormat.parts)
    kinds = (base.dtype == np.float32, gaps.dtype in _GAPS, values.dtype in _VALUES)
    if not all(kinds) or base.ndim < 1 or gaps.ndim != 1 or values.shape != gaps.shape:
        raise ModelError(
            "the parts of a weight with outliers are malformed",
            expected="float32, uint8 or uint16 [n], and float16 or float32 [n]",
            got=", ".join(f"{part.dtype} {list(part.shape)}" for part in (base, gaps, values)),
        )
    places = np.cumsum(gaps, dtype=np.int64)
    if len(places) and places[-1] >= base.size:
        raise ModelError(
            "an outlier lies outside its weight", expected=f"places below {base.size}", got=int(places[-1])
        )
    if (gaps[1:] == 0).any():
        raise ModelError("two outliers have one place", expected="gaps of at least 1 after the first")
    return places
