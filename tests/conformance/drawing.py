"""What the suites draw: extents around the widths of vectors and tiles, weights with zeros, epilogues."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from .bounded import Array
from .graphs import Case, random_array

__all__ = [
    "EPILOGUES",
    "add_epilogue",
    "blocked",
    "epilogues",
    "extents",
    "planes",
    "seeds",
    "sparsities",
]

EDGES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65)
EPILOGUES = (
    "",
    "relu",
    "clip",
    "sigmoid",
    "silu",
    "hard-swish",
    "gelu",
    "residual",
    "residual-relu",
    "scale",
)

seeds = st.integers(0, 2**16)
epilogues = st.sampled_from(EPILOGUES)
# none, the patterns that recipes make, and the extremes
sparsities = st.sampled_from((0.0, 0.0, 0.3, 0.5, 0.8, 0.9, 0.97, 1.0))


def extents(most: int = 70) -> st.SearchStrategy[int]:
    """1 to `most`; every second one is beside a multiple of a vector."""
    return st.one_of(st.sampled_from([n for n in EDGES if n <= most]), st.integers(1, most))


@st.composite
def planes(draw: st.DrawFn, most: int = 200) -> tuple[int, int]:
    """Height and width of an image of at most `most` pixels."""
    width = draw(extents(70))
    return draw(extents(max(1, min(70, most // width)))), width


def blocked(seed: int, rows: int, depth: int, height: int, sparsity: float) -> Array:
    """(rows, depth) float32 whose zeros come in blocks of `height` rows; some rows of blocks are empty."""
    rng = np.random.default_rng((seed, rows, depth))
    count = -(-rows // height)
    kept = rng.random((count, depth)) >= sparsity
    if sparsity:
        kept &= rng.random((count, 1)) >= 0.15
    mask = np.repeat(kept, height, axis=0)[:rows]
    return np.where(mask, random_array(seed, rows, depth), 0).astype(np.float32)


def add_epilogue(case: Case, value: str, kind: str, channel_shape: tuple[int, ...], seed: int) -> str:
    """The value after the elementwise operators of `kind`; `channel_shape` broadcasts one a channel."""
    shape = case.values[value].shape
    if kind == "relu":
        return case.add("Relu", value)
    if kind == "clip":
        low, high = (case.weight(np.array(v, np.float32)) for v in (0, 6))
        return case.add("Clip", value, low, high)
    if kind == "silu":
        return case.add("Mul", value, case.add("Sigmoid", value))
    if kind.startswith("residual"):
        total = case.add("Add", value, case.feed(random_array(seed + 1, *shape)))
        return case.add("Relu", total) if kind.endswith("relu") else total
    if kind == "scale":
        factor = case.weight(random_array(seed + 2, *channel_shape))
        return case.add("Mul", value, factor)
    single = {"sigmoid": "Sigmoid", "hard-swish": "HardSwish", "gelu": "Gelu"}
    return case.add(single[kind], value) if kind else value
