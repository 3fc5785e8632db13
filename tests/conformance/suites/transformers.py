"""Attention, alone and between its projections, and the layers behind it."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from ..drawing import blocked, extents, seeds
from ..graphs import Case, random_array

__all__ = ["cases", "edges"]


def _scores(case: Case, q: str, k: str, scale: float, mask: str, seed: int) -> str:
    """Softmax of scaled, masked products; `k` is (…, depth, columns)."""
    product = case.add("MatMul", q, k)
    if scale != 1:
        product = case.add("Mul", product, case.weight(np.array(scale, np.float32)))
    if mask:
        batch, _, rows, columns = case.values[product].shape
        shape = {"keys": (batch, 1, 1, columns), "both": (rows, columns)}[mask]
        product = case.add("Add", product, case.feed(5 * random_array(seed + 9, *shape)))
    return case.add("Softmax", product, axis=-1)


def attention(
    batch: int,
    heads: int,
    rows: int,
    columns: int,
    depth: int,
    *,
    scale: float = 1.0,
    mask: str = "",
    shares: bool = False,
    seed: int = 0,
) -> Case:
    """Queries, keys and values as they come; the shares are an output too where `shares`."""
    case = Case(f"attention{tuple(locals().values())}")
    q = case.feed(random_array(seed, batch, heads, rows, depth))
    k = case.add(
        "Transpose", case.feed(random_array(seed + 1, batch, heads, columns, depth)), perm=[0, 1, 3, 2]
    )
    share = _scores(case, q, k, scale, mask, seed)
    v = case.feed(random_array(seed + 2, batch, heads, columns, depth))
    return case.give(*([share] if shares else []), case.add("MatMul", share, v))


def layer(
    batch: int, heads: int, rows: int, depth: int, *, sparsity: float = 0.0, mask: str = "", seed: int = 0
) -> Case:
    """A layer of an encoder: projections, attention, two products with GELU, residuals and norms."""
    case = Case(f"layer{tuple(locals().values())}")
    width = heads * depth

    def projected(x: str, size: int, part: int) -> str:
        inputs = case.values[x].shape[-1]
        w = blocked(seed + part, size, inputs, 4, sparsity).T / np.float32(np.sqrt(inputs))
        y = case.add("MatMul", x, case.weight(w.copy()))
        return case.add("Add", y, case.weight(random_array(seed + part, size)))

    def as_heads(x: str, perm: list[int]) -> str:
        shape = case.weight(np.array([batch, rows, heads, depth], np.int64))
        return case.add("Transpose", case.add("Reshape", x, shape), perm=perm)

    def normed(x: str, part: int) -> str:
        own = [case.weight(random_array(seed + part + i, width)) for i in range(2)]
        return case.add("LayerNormalization", x, *own, axis=-1)

    x = case.feed(random_array(seed, batch, rows, width))
    q, k, v = (
        as_heads(projected(x, width, i), p) for i, p in enumerate(([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
    )
    mixed = case.add("MatMul", _scores(case, q, k, float(depth**-0.5), mask, seed), v)
    mixed = case.add("Transpose", mixed, perm=[0, 2, 1, 3])
    mixed = case.add("Reshape", mixed, case.weight(np.array([batch, rows, width], np.int64)))
    x = normed(case.add("Add", projected(mixed, width, 3), x), 4)
    inner = case.add("Gelu", projected(x, 2 * width, 6))
    return case.give(normed(case.add("Add", projected(inner, width, 7), x), 8))


_masks = st.sampled_from(("", "keys", "both"))


@st.composite
def _attention(draw: st.DrawFn) -> Case:
    return attention(
        draw(st.sampled_from((1, 1, 2))),
        draw(st.sampled_from((1, 2, 3))),
        draw(extents(40)),
        draw(extents(40)),
        draw(extents(40)),
        scale=draw(st.sampled_from((1.0, 0.125))),
        mask=draw(_masks),
        shares=draw(st.booleans()),
        seed=draw(seeds),
    )


@st.composite
def _layer(draw: st.DrawFn) -> Case:
    return layer(
        draw(st.sampled_from((1, 1, 2))),
        draw(st.sampled_from((1, 2, 3))),
        draw(extents(40)),
        draw(extents(24)),
        sparsity=draw(st.sampled_from((0.0, 0.8, 0.95))),
        mask=draw(_masks),
        seed=draw(seeds),
    )


def cases() -> st.SearchStrategy[Case]:
    """Attention alone twice as often as in its layer."""
    return st.one_of(_attention(), _attention(), _layer())


def edges() -> list[Case]:
    """One row, one column, sides of a vector, with and without scale and mask."""
    return [
        attention(1, 1, 1, 1, 1),
        attention(1, 2, 17, 33, 16, scale=0.25, mask="keys"),
        attention(2, 3, 16, 31, 32, scale=0.125, mask="both", seed=1),
        attention(1, 2, 33, 5, 7, shares=True, seed=2),
        attention(1, 1, 9, 65, 8, seed=3),
        layer(1, 2, 17, 16),
        layer(1, 2, 33, 16, sparsity=0.9, mask="keys", seed=1),
        layer(2, 3, 5, 8, mask="both", seed=2),
        layer(1, 1, 1, 16, sparsity=0.8, seed=3),
    ]
