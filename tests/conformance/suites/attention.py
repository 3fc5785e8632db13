"""Attention of several heads as exporters write it, its operands row-major, or planes behind a layer norm."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from ..drawing import blocked, extents, seeds
from ..graphs import Case, random_array

__all__ = ["cases", "edges"]

MASKS = ("none", "keys", "pairs", "first")


def encoder(
    batch: int, sequence: int, heads: int, width: int, mask: str = "none", planes: bool = False, seed: int = 0
) -> Case:
    """softmax(Q K' · width^-½ + mask) V of (batch, sequence, heads · width), heads split and joined.

    With `planes` the operands are sparse products of one layer norm, else three inputs.
    """
    case = Case(f"encoder{(batch, sequence, heads, width, mask, planes, seed)}")
    total = heads * width
    parts = [case.feed(random_array(seed + i, batch, sequence, total)) for i in range(1 if planes else 3)]
    if planes:
        scale, shift = (case.weight(random_array(seed + i, total)) for i in (5, 6))
        norm = case.add("LayerNormalization", parts[0], scale, shift, epsilon=1e-2)
        weights = [blocked(seed + i, total, total, 4, 0.8) / np.float32(total**0.5) for i in range(3)]
        parts = [case.add("MatMul", norm, case.weight(w.T.copy())) for w in weights]
        case.give(norm)
    split = case.weight(np.array([batch, sequence, heads, width]))
    q, k, v = (case.add("Reshape", part, split) for part in parts)
    q, v = (case.add("Transpose", part, perm=[0, 2, 1, 3]) for part in (q, v))
    k = case.add("Transpose", k, perm=[0, 2, 3, 1])
    scores = case.add("Mul", case.add("MatMul", q, k), case.weight(np.array([width**-0.5], np.float32)))
    if mask != "none":
        shapes = {
            "keys": (batch, 1, 1, sequence),
            "pairs": (sequence, sequence),
            "first": (batch, heads, sequence, 1),
        }
        scores = case.add("Add", scores, case.feed(random_array(seed + 9, *shapes[mask])))
    mixed = case.add("MatMul", case.add("Softmax", scores, axis=-1), v)
    joined = case.add("Transpose", mixed, perm=[0, 2, 1, 3])
    return case.give(case.add("Reshape", joined, case.weight(np.array([batch, sequence, total]))))


def cases() -> st.SearchStrategy[Case]:
    """Both layouts, every mask."""
    return st.builds(
        encoder,
        st.sampled_from((1, 1, 2)),
        extents(40),
        st.sampled_from((1, 2, 3)),
        extents(40),
        st.sampled_from(MASKS),
        st.booleans(),
        seeds,
    )


def edges() -> list[Case]:
    """One of everything; sequences around whole vectors and tiles."""
    return [
        encoder(1, 1, 1, 1),
        encoder(1, 1, 2, 9, "keys"),
        encoder(1, 31, 1, 1, "pairs"),
        encoder(2, 17, 2, 20, "keys"),
        encoder(1, 64, 2, 33, "first", seed=1),
        encoder(1, 9, 2, 8, "pairs", planes=True),
        encoder(2, 17, 3, 8, "none", planes=True),
        encoder(1, 64, 1, 32, "keys", planes=True),
        encoder(1, 33, 2, 16, "first", planes=True, seed=2),
    ]
