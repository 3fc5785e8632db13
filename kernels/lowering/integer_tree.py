"""Epilogues of integer kernels: what of a tree becomes the final rounding, and what is left of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..cpu.byte_lookup import has_lookup, lookup_cost, stored_table
from ..cpu.epilogue import Accumulator
from ..cpu.integer_epilogue import Finish, Requantize
from ..cpu.lazy import Elementwise, Fill, Lazy, weight_of
from ..cpu.tensor import Tensor
from .affine_epilogue import affine
from .byte_tables import byte_table, rounded_before
from .state import Lowering

__all__ = ["Sums", "finish_at_run_time", "finish_of", "rounding_of"]

_ROUNDED = 2.0**22  # what the rounding of a float by addition can hold


@dataclass(frozen=True)
class Sums:
    """What int32 sums stand for: `scale` and `addend` per output (float64); |sum| is at most `most`."""

    scale: np.ndarray
    addend: np.ndarray | None
    most: np.ndarray


def finish_of(state: Lowering, name: str, tree: Lazy, sums: Sums, packed: Any) -> Finish:
    """`packed(row)` lays one value per output out as the kernel reads it."""
    table, dtype = None, tree.dtype
    if (found := _tabulated(state, name, tree)) is not None:
        table, tree = found
    requantize, rest = _last_rounding(tree)
    scale, addend = sums.scale, sums.addend
    total = None if requantize is None else affine(rest, _last_rounding)
    if requantize is not None and total is not None and total.most(1 / requantize.inverse) < _ROUNDED:
        scale = scale.astype(np.float32) / np.float32(total.unit)
        addend = None if addend is None else addend / total.unit
        rest = total.tree(1 / requantize.inverse, requantize.zero_point)
        requantize = replace(requantize, inverse=1.0, zero_point=0, bounded=True)
    elif requantize is not None and isinstance(rest, Accumulator):
        # in float32 and in this order, as onnxruntime computes it: the same ties are rounded the same way
        scale = scale.astype(np.float32) / np.float32(1.0 / requantize.inverse)
        addend = None if addend is None else addend * requantize.inverse
        most = np.max(sums.most * np.abs(scale) + (0.0 if addend is None else np.abs(addend)))
        requantize = replace(requantize, inverse=1.0, bounded=bool(most < _ROUNDED))
    return Finish(
        state.pool.add(f"{name}.scale", packed(scale).astype(np.float32)),
        None if addend is None else state.pool.add(f"{name}.addend", packed(addend).astype(np.float32)),
        _rounded_inside(rest, {}),
        requantize,
        table,
        dtype if table is not None else "",
    )


def _tabulated(state: Lowering, name: str, tree: Lazy) -> tuple[Tensor, Lazy] | None:
    """(table, the rounding that it begins with) where looking up is less work than computing."""
    inner = rounded_before(tree) if has_lookup(state.isa) else None
    if inner is None or weight_of(tree) - weight_of(inner) <= lookup_cost(state.isa):
        return None
    entries = byte_table(tree, inner)
    assert entries is not None
    return state.pool.add(f"{name}.table", stored_table(state.isa, entries), "table of bytes"), inner


def finish_at_run_time(tree: Lazy, scale: Tensor) -> Finish:
    """Where `scale` (packed, float32) is computed when the model runs."""
    requantize, rest = _last_rounding(tree)
    return Finish(scale, None, _rounded_inside(rest, {}), requantize)


def rounding_of(tree: Lazy) -> tuple[Requantize, Lazy] | None:
    """(the rounding at the root, what is rounded); None where scales are no single constants."""
    if not _is_plain(tree):
        return None
    requantize, rest = _last_rounding(tree)
    return None if requantize is None else (requantize, _rounded_inside(rest, {}))


def _is_plain(tree: Lazy) -> bool:
    """Whether all scales and zero points in it are single constants that are there."""
    if isinstance(tree, Elementwise) and tree.function in ("Quantize", "Dequantize"):
        parameters = tree.args[1:]
        if len(parameters) != 2 or not all(isinstance(p, Fill) for p in parameters):
            return False
    return all(_is_plain(part) for part in tree.parts())


def _last_rounding(tree: Lazy) -> tuple[Requantize | None, Lazy]:
    """The Quantize at the root, with the Relu or Clip that it follows as its limits."""
    if not isinstance(tree, Elementwise) or tree.function != "Quantize":
        return None, tree
    scale, zero, low, high = _parameters(tree)
    rest = tree.args[0]
    while (limits := _limits(rest)) is not None:
        least, most = (None if x is None else _quantized(x, scale, zero) for x in limits)
        low = low if least is None else min(max(low, least), high)
        high = high if most is None else max(min(high, most), low)
        rest = rest.parts()[0]
    return Requantize(1.0 / scale, zero, low, high, tree.dtype), rest


def _quantized(value: float, scale: float, zero: int) -> int:
    return int(np.clip(np.rint(np.float32(value) / np.float32(scale)), -1e6, 1e6)) + zero


def _limits(tree: Lazy) -> tuple[float | None, float | None] | None:
    """(least, most) that a Relu or Clip lets through."""
    if not isinstance(tree, Elementwise):
        return None
    if tree.function == "Relu":
        return 0.0, None
    if tree.function != "Clip":
        return None
    options = dict(tree.options)
    return options.get("min"), options.get("max")


def _parameters(tree: Elementwise) -> tuple[float, int, int, int]:
    """Scale, zero point and limits of a Quantize."""
    scale, zero = tree.args[1], tree.args[2]
    assert isinstance(scale, Fill)
    assert isinstance(zero, Fill)
    options = dict(tree.options)
    return float(scale.value), int(zero.value), options["low"], options["high"]


def _rounded_inside(tree: Lazy, known: dict[Any, Lazy]) -> Lazy:
    """The tree with every Dequantize of a Quantize as one step that stays in float32, equal ones shared."""
    if not isinstance(tree, Elementwise):
        return tree
    inner = tree.args[0]
    both = tree.function == "Dequantize" and isinstance(inner, Elementwise) and inner.function == "Quantize"
    key = (id(inner), *(a.key for a in tree.args[1:])) if both else id(tree)
    if key not in known:
        if both:
            assert isinstance(inner, Elementwise)
            value = _rounded_inside(inner.args[0], known)
            known[key] = Elementwise("QuantizeDequantize", (value,), "float32", _both(inner, tree))
        else:
            known[key] = replace(tree, args=tuple(_rounded_inside(part, known) for part in tree.args))
    return known[key]


def _both(quantize: Elementwise, dequantize: Elementwise) -> tuple[tuple[str, Any], ...]:
    scale, zero, low, high = _parameters(quantize)
    after, other = dequantize.args[1:3]
    assert isinstance(after, Fill)
    assert isinstance(other, Fill)
    options = {
        "inverse": 1.0 / scale,
        "low": float(low - zero),
        "high": float(high - zero),
        "shift": float(zero - int(other.value)),
        "scale": float(after.value),
    }
    return tuple(sorted(options.items()))
