"""Products by weights that store N of every M inputs: every pattern, few rows and many, tails of groups."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from gossamer.kernels.formats import find_format
from gossamer.kernels.formats.base import Array
from gossamer.passes.storing import Stored

from ..drawing import add_epilogue, epilogues, extents, seeds
from ..graphs import Case, random_array

__all__ = ["cases", "edges"]

PATTERNS = ((1, 2), (1, 4), (2, 4), (3, 4), (1, 8), (2, 8), (4, 8), (7, 8), (3, 16), (9, 16), (2, 5))


def n_m_weight(seed: int, outputs: int, inputs: int, kept: int, of: int) -> Array:
    """Of every `of` inputs `kept` at most are not zero; some groups have fewer."""
    weight = random_array(seed, outputs, inputs)
    rng = np.random.default_rng((seed, kept, of))
    for start in range(0, inputs, of):
        part = weight[:, start : start + of]
        part[np.argsort(rng.random(part.shape), axis=1) >= rng.integers(0, kept + 1, (outputs, 1))] = 0
    return weight


def linear(
    rows: int,
    depth: int,
    columns: int,
    pattern: tuple[int, int] = (2, 4),
    *,
    dtype: str = "float32",
    gemm: bool = False,
    bias: bool = True,
    epilogue: str = "",
    seed: int = 0,
) -> Case:
    """(rows, depth) times an N:M weight."""
    case = Case(f"linear{tuple(locals().values())}")
    kept, of = pattern
    x = case.feed(random_array(seed, rows, depth))
    weight = n_m_weight(seed, columns, depth, kept, of)
    w = case.stored(Stored("n-m", find_format("n-m").encode(weight, kept=kept, of=of, dtype=dtype)))
    added = [case.weight(random_array(seed, columns))] if bias else []
    if gemm:
        y = case.add("Gemm", x, w, *added, transB=1)
    else:
        y = case.add("MatMul", x, case.add("Transpose", w, perm=[1, 0]))
        y = case.add("Add", y, *added) if bias else y
    return case.give(add_epilogue(case, y, epilogue, (columns,), seed))


def convolution(
    channels: int,
    outputs: int,
    size: int,
    kernel: int = 1,
    pattern: tuple[int, int] = (2, 4),
    *,
    epilogue: str = "",
    seed: int = 0,
) -> Case:
    """Images of `size` x `size` and an N:M weight, padded to as many pixels."""
    case = Case(f"convolution{tuple(locals().values())}")
    kept, of = pattern
    x = case.feed(random_array(seed, 1, channels, size, size))
    weight = n_m_weight(seed, outputs * kernel * kernel, channels, kept, of)
    weight = weight.reshape(outputs, kernel, kernel, channels).transpose(0, 3, 1, 2).copy()
    w = case.stored(Stored("n-m", find_format("n-m").encode(weight, kept=kept, of=of)))
    y = case.add("Conv", x, w, case.weight(random_array(seed, outputs)), pads=[kernel // 2] * 4)
    return case.give(add_epilogue(case, y, epilogue, (1, outputs, 1, 1), seed))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Few rows mostly."""
    return linear(
        draw(st.one_of(st.integers(1, 6), st.just(1), extents(40))),
        draw(extents(150)),
        draw(extents(100)),
        draw(st.sampled_from(PATTERNS)),
        dtype=draw(st.sampled_from(("float32", "float16"))),
        gemm=draw(st.booleans()),
        bias=draw(st.booleans()),
        epilogue=draw(epilogues),
        seed=draw(seeds),
    )


def edges() -> list[Case]:
    """Every pattern at odd sizes; one output, one input; whole groups only; many rows."""
    found = [
        linear(
            1 + i % 3,
            61 + 7 * i,
            15 + 9 * i,
            pattern,
            dtype=("float32", "float16")[i % 2],
            gemm=i % 2 == 0,
            epilogue=("", "relu", "gelu", "residual", "scale")[i % 5],
            seed=i,
        )
        for i, pattern in enumerate(PATTERNS)
    ]
    return [
        *found,
        linear(1, 1, 1),
        linear(1, 3, 33, (1, 4)),
        linear(1, 64, 1, epilogue="sigmoid"),
        linear(1, 128, 64, (2, 4), bias=False),
        linear(7, 33, 70, (2, 8)),
        linear(24, 40, 50, (2, 4), epilogue="relu"),
        linear(40, 33, 21, (9, 16)),
        linear(33, 64, 40, (2, 5)),
        convolution(16, 24, 9, pattern=(2, 4), epilogue="relu"),
        convolution(37, 9, 7, pattern=(4, 8)),
        convolution(12, 17, 8, 3, (2, 4), epilogue="residual"),
        convolution(36, 5, 12, 3, (3, 4), seed=1),
        convolution(18, 8, 5, 5, (9, 16)),
    ]
