"""Products and convolutions by bit stacks: ranks and blocks, few rows and many, groups, Winograd."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from gossamer.kernels.formats import find_format
from gossamer.passes.storing import Stored

from ..drawing import add_epilogue, epilogues, extents, seeds
from ..graphs import Case, random_array

__all__ = ["bit_stack", "cases", "edges"]


def bit_stack(shape: tuple[int, ...], blocks: int, rank: int, seed: int) -> Stored:
    """A random weight, its inputs with factors."""
    weight = random_array(seed, *shape)
    matrix = weight.reshape(len(weight), -1)
    parts = find_format("bit-stack").encode(weight, blocks=blocks, rank=min(rank, *matrix.shape))
    factors = np.random.default_rng(seed).uniform(0.5, 2, matrix.shape[1]).astype(np.float16)
    return Stored("bit-stack", {**parts, "columns": factors, "order": parts["order"] * 3 + seed % 5})


def linear(
    rows: int,
    depth: int,
    columns: int,
    blocks: int = 3,
    rank: int = 1,
    *,
    gemm: bool = False,
    epilogue: str = "",
    seed: int = 0,
) -> Case:
    """(rows, depth) times a bit stack."""
    case = Case(f"linear{tuple(locals().values())}")
    x = case.feed(random_array(seed, rows, depth))
    w = case.stored(bit_stack((columns, depth), blocks, rank, seed))
    if gemm:
        y = case.add("Gemm", x, w, case.weight(random_array(seed, columns)), transB=1)
    else:
        y = case.add("MatMul", x, case.add("Transpose", w, perm=[1, 0]))
    return case.give(add_epilogue(case, y, epilogue, (columns,), seed))


def convolution(
    channels: int, outputs: int, size: int, kernel: int, *, group: int = 1, blocks: int = 2, seed: int = 0
) -> Case:
    """A convolution that keeps the size."""
    case = Case(f"convolution{tuple(locals().values())}")
    x = case.feed(random_array(seed, 1, channels, size, size))
    w = case.stored(bit_stack((outputs, channels // group, kernel, kernel), blocks, 1, seed))
    return case.give(case.add("Conv", x, w, pads=[kernel // 2] * 4, group=group))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Products mostly."""
    if draw(st.integers(0, 3)) == 0:
        sizes = draw(extents(33)), draw(extents(33)), draw(st.integers(1, 14))
        return convolution(*sizes, draw(st.sampled_from((1, 3))), seed=draw(seeds))
    return linear(
        draw(st.one_of(st.just(1), extents(40))),
        draw(extents(150)),
        draw(extents(100)),
        draw(st.integers(1, 4)),
        draw(st.sampled_from((1, 1, 2, 5))),
        gemm=draw(st.booleans()),
        epilogue=draw(epilogues),
        seed=draw(seeds),
    )


def edges() -> list[Case]:
    """One row, one output, one input; high rank; many rows; convolutions of all kinds."""
    return [
        linear(1, 64, 64),
        linear(1, 65, 33, 2, 3, gemm=True, epilogue="relu"),
        linear(1, 1, 40, 1, gemm=True),
        linear(2, 95, 47, 1, 20),
        linear(37, 70, 50, 3, 2, epilogue="residual"),
        convolution(24, 33, 7, 1),
        convolution(32, 32, 16, 3),
        convolution(16, 24, 6, 3, group=2),
    ]
