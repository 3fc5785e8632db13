"""Products and convolutions by spqr weights and by weights with outliers: every width, few rows and many."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from gossamer.kernels.formats import find_format
from gossamer.kernels.formats.outliers import outlier_parts
from gossamer.kernels.formats.palette import PaletteForm
from gossamer.passes.storing import Stored

from ..drawing import add_epilogue, epilogues, extents, seeds
from ..graphs import Case, random_array
from .palettes import palette

__all__ = ["cases", "edges", "spqr"]


def spqr(shape: tuple[int, ...], outliers: float, seed: int, **form: int) -> Stored:
    """A random weight; `outliers` of it are kept in float16."""
    weight = random_array(seed, *shape)
    base = Stored("spqr", find_format("spqr").encode(weight, **form))
    mask = np.random.default_rng(seed).random(shape) < outliers
    return Stored("outliers", {"base": base, **outlier_parts(weight * 5, mask)}) if outliers else base


def linear(
    rows: int,
    depth: int,
    columns: int,
    bits: int = 3,
    *,
    outliers: float = 0.0,
    group: int = 16,
    grid: int = 16,
    gemm: bool = False,
    bias: bool = True,
    epilogue: str = "",
    seed: int = 0,
) -> Case:
    """(rows, depth) times an spqr weight."""
    case = Case(f"linear{tuple(locals().values())}")
    x = case.feed(random_array(seed, rows, depth))
    w = case.stored(spqr((columns, depth), outliers, seed, bits=bits, group=group, rows=grid))
    if gemm:
        y = case.add("Gemm", x, w, *([case.weight(random_array(seed, columns))] if bias else []), transB=1)
    else:
        y = case.add("MatMul", x, case.add("Transpose", w, perm=[1, 0]))
        y = case.add("Add", y, case.weight(random_array(seed, columns))) if bias else y
    return case.give(add_epilogue(case, y, epilogue, (columns,), seed))


def beside_palette(rows: int, depth: int, columns: int) -> Case:
    """(rows, depth) times a palette with a scale for each output, and outliers beside it."""
    case = Case(f"beside_palette{(rows, depth, columns)}")
    x = case.feed(random_array(0, rows, depth))
    form = PaletteForm((columns, depth), 4, 1, 1, columns, depth)
    mask = np.random.default_rng(0).random(form.shape) < 0.05
    more = outlier_parts(random_array(1, *form.shape) * 5, mask)
    w = case.stored(Stored("outliers", {"base": palette(form, "float16", True, 0), **more}))
    return case.give(case.add("MatMul", x, case.add("Transpose", w, perm=[1, 0])))


def convolution(
    channels: int,
    outputs: int,
    size: int,
    kernel: int,
    *,
    group: int = 1,
    outliers: float = 0.0,
    seed: int = 0,
) -> Case:
    """A convolution that keeps the size."""
    case = Case(f"convolution{tuple(locals().values())}")
    x = case.feed(random_array(seed, 1, channels, size, size))
    w = case.stored(spqr((outputs, channels // group, kernel, kernel), outliers, seed))
    return case.give(case.add("Conv", x, w, pads=[kernel // 2] * 4, group=group))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Few rows mostly."""
    if draw(st.integers(0, 4)) == 0:
        sizes = draw(extents(33)), draw(extents(33)), draw(st.integers(1, 14))
        kernel, outliers = draw(st.sampled_from((1, 3))), draw(st.sampled_from((0.0, 0.1)))
        return convolution(*sizes, kernel, outliers=outliers, seed=draw(seeds))
    return linear(
        draw(st.one_of(st.integers(1, 3), st.just(1), extents(40))),
        draw(extents(200)),
        draw(extents(150)),
        draw(st.integers(1, 8)),
        outliers=draw(st.sampled_from((0.0, 0.01, 0.3))),
        group=draw(st.sampled_from((16, 16, 8, 32, 64, 9))),
        grid=draw(st.sampled_from((16, 16, 32, 4, 7))),
        gemm=draw(st.booleans()),
        bias=draw(st.booleans()),
        epilogue=draw(epilogues),
        seed=draw(seeds),
    )


def edges() -> list[Case]:
    """Every width at odd sizes; one output, one input; long and short groups; rows full of outliers."""
    found = [
        linear(1 + bits % 3, 95 + bits, 45 + 3 * bits, bits, gemm=bits > 4, seed=bits) for bits in range(1, 9)
    ]
    return [
        *found,
        linear(1, 1, 1),
        linear(1, 65, 1, 2, epilogue="sigmoid"),
        linear(1, 64, 64, 4, outliers=0.01, epilogue="residual"),
        linear(2, 130, 96, outliers=0.05, group=64, grid=32, epilogue="relu"),
        linear(3, 70, 50, outliers=1.0, group=8, bias=False),
        linear(1, 40, 24, group=32, gemm=True, outliers=0.1),
        linear(9, 33, 40, 5, outliers=0.1, group=9, grid=8),
        beside_palette(1, 70, 50),
        beside_palette(9, 33, 40),
        linear(40, 47, 70, 4, outliers=0.1, group=32),
        convolution(24, 33, 7, 1, outliers=0.05),
        convolution(32, 32, 16, 3, outliers=0.01),
        convolution(16, 24, 6, 3, group=2, outliers=0.2),
    ]
