"""Sums of dequantised values in memory as one weighted sum of bytes, as residual sums are."""

from __future__ import annotations

from ..cpu.lazy import Elementwise, Fill, Lazy, Leaf
from ..cpu.pixel_layout import IMAGE_TYPES
from .affine_epilogue import Affine

__all__ = ["byte_sum"]


def byte_sum(tree: Lazy) -> Affine | None:
    """`tree` as a sum of bytes and a constant; None where it is something else."""
    if not isinstance(tree, Elementwise):
        return None
    if tree.function == "Dequantize":
        inner, scale, zero = (*tree.args, None)[:3]
        if not isinstance(inner, Leaf) or inner.dtype not in IMAGE_TYPES:
            return None
        if not isinstance(scale, Fill) or not isinstance(zero, Fill):
            return None
        return Affine(((inner, float(scale.value)),), -float(zero.value) * float(scale.value))
    if tree.function not in ("Add", "Sub", "Sum"):
        return None
    parts = [part for arg in tree.args if (part := byte_sum(arg)) is not None]
    if len(parts) < len(tree.args):
        return None
    signs = [1.0, -1.0] if tree.function == "Sub" else [1.0] * len(parts)
    terms = tuple((t, f * s) for part, s in zip(parts, signs, strict=True) for t, f in part.terms)
    return Affine(terms, sum(part.constant * s for part, s in zip(parts, signs, strict=True)))
