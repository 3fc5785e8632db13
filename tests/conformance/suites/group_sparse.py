"""Products by surviving groups in 4 bits: every size of a group, few rows and many, empty outputs."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from gossamer.kernels.formats.group_sparse_int4 import GROUPS, Groups, pack_groups
from gossamer.passes.storing import Stored

from ..drawing import add_epilogue, epilogues, extents, seeds
from ..graphs import Case, random_array

__all__ = ["cases", "edges"]


def stored_groups(outputs: int, inputs: int, group: int, kept: float, seed: int) -> Stored:
    """Random levels, also beyond the last input; some outputs keep no group where not all are kept."""
    rng = np.random.default_rng((seed, outputs, inputs, group))
    alive = rng.random((outputs, -(-inputs // group))) < kept
    if kept < 1:
        alive &= rng.random((outputs, 1)) >= 0.15
    count = int(alive.sum())
    parts = pack_groups(
        Groups(
            (outputs, inputs),
            rng.integers(0, 16, (count, group)).astype(np.uint8),
            rng.uniform(1e-5, 0.1, count).astype(np.float16).astype(np.float32),
            rng.integers(0, 16, count).astype(np.uint8),
            np.nonzero(alive)[1],
            np.concatenate([[0], np.cumsum(alive.sum(axis=1))]),
        )
    )
    return Stored("group-sparse-int4", parts)


def linear(
    rows: int,
    depth: int,
    columns: int,
    group: int = 16,
    kept: float = 0.5,
    *,
    gemm: bool = False,
    bias: bool = True,
    epilogue: str = "",
    seed: int = 0,
) -> Case:
    """(rows, depth) times groups."""
    case = Case(f"linear{tuple(locals().values())}")
    x = case.feed(random_array(seed, rows, depth))
    w = case.stored(stored_groups(columns, depth, group, kept, seed))
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
    group: int = 16,
    kept: float = 0.8,
    *,
    epilogue: str = "",
    seed: int = 0,
) -> Case:
    """Images of `size` x `size` and groups, padded to as many pixels."""
    case = Case(f"convolution{tuple(locals().values())}")
    x = case.feed(random_array(seed, 1, channels, size, size))
    stored = stored_groups(outputs, channels * kernel * kernel, group, kept, seed)
    shape = np.array([outputs, channels, kernel, kernel], np.int64)
    w = case.stored(Stored(stored.format, {**stored.parts, "shape": shape}))
    y = case.add("Conv", x, w, case.weight(random_array(seed, outputs)), pads=[kernel // 2] * 4)
    return case.give(add_epilogue(case, y, epilogue, (1, outputs, 1, 1), seed))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Few rows mostly."""
    return linear(
        draw(st.one_of(st.integers(1, 6), st.just(1), extents(40))),
        draw(extents(300)),
        draw(extents(100)),
        draw(st.sampled_from(GROUPS)),
        draw(st.sampled_from((0.0, 0.2, 0.5, 0.5, 1.0))),
        gemm=draw(st.booleans()),
        bias=draw(st.booleans()),
        epilogue=draw(epilogues),
        seed=draw(seeds),
    )


def edges() -> list[Case]:
    """Every size of a group at odd sizes and with tails; one output, one input; no group at all."""
    found = [
        linear(1 + i, 259 + i, 19 + 16 * i, group, epilogue=("", "relu", "gelu", "residual")[i], seed=i)
        for i, group in enumerate(GROUPS)
    ]
    return [
        *found,
        linear(1, 256, 64, 16, 1.0, gemm=True),
        linear(5, 128, 33, 32, gemm=True, bias=False),
        linear(1, 1, 1),
        linear(1, 17, 1, epilogue="sigmoid"),
        linear(1, 31, 50, 64, bias=False),
        linear(1, 40, 20, 16, 0.0),
        linear(2, 96, 18, 16, 0.1, epilogue="scale"),
        linear(20, 70, 33, 32),
        linear(33, 256, 40, 128, 0.7, epilogue="gelu"),
        convolution(32, 24, 9, epilogue="relu"),
        convolution(40, 9, 7, 1, 32, 0.9),
        convolution(12, 17, 8, 3, 64, epilogue="residual"),
        convolution(20, 6, 12, 3, 16, 1.0, seed=1),
        convolution(5, 8, 5, 5, 128, 0.6),
    ]
