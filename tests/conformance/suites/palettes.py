"""Products by palettes: every width of codes, tables by group and block, books, few rows and many."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from gossamer.kernels.formats import find_format
from gossamer.kernels.formats.palette import PaletteForm, pack_palette
from gossamer.passes.storing import Stored

from ..drawing import add_epilogue, blocked, epilogues, extents, seeds, sparsities
from ..graphs import Case, random_array

__all__ = ["cases", "edges", "palette"]

LUTS = ("float16", "float32", "int8")


def palette(form: PaletteForm, lut: str, scaled: bool, seed: int) -> Stored:
    """Random codes and tables; `scaled` gives each output a factor."""
    rng = np.random.default_rng((seed, *form.codes_shape))
    codes = rng.integers(0, 1 << form.bits, form.codes_shape).astype(np.uint8)
    table = rng.standard_normal(form.lut_shape)
    factor = rng.uniform(0.5, 2, form.lut_shape[:3]).astype(np.float16) / np.float16(50)
    scale = rng.uniform(0.5, 2, form.outputs).astype(np.float32) if scaled else None
    if lut == "int8":
        return Stored("palette", pack_palette(form, codes, (table * 40).astype(np.int8), factor, scale))
    return Stored("palette", pack_palette(form, codes, table.astype(lut), None, scale))


def linear(
    rows: int,
    depth: int,
    columns: int,
    bits: int,
    *,
    vector: int = 1,
    books: int = 1,
    group: int = 0,
    block: int = 0,
    lut: str = "float16",
    scaled: bool = False,
    gemm: bool = False,
    bias: bool = True,
    epilogue: str = "",
    seed: int = 0,
) -> Case:
    """(rows, depth) times a palette; 0 for `group` or `block` is one table for all."""
    case = Case(f"linear{tuple(locals().values())}")
    x = case.feed(random_array(seed, rows, depth))
    form = PaletteForm(
        (columns, depth), bits, vector, books, group or -(-columns // vector) * vector, block or depth
    )
    w = case.stored(palette(form, lut, scaled, seed))
    if gemm:
        y = case.add("Gemm", x, w, *([case.weight(random_array(seed, columns))] if bias else []), transB=1)
    else:
        y = case.add("MatMul", x, case.add("Transpose", w, perm=[1, 0]))
        y = case.add("Add", y, case.weight(random_array(seed, columns))) if bias else y
    return case.give(add_epilogue(case, y, epilogue, (columns,), seed))


def sparse(
    rows: int,
    depth: int,
    columns: int,
    bits: int,
    height: int,
    *,
    sparsity: float = 0.5,
    lut: str = "float16",
    bias: bool = True,
    epilogue: str = "",
    seed: int = 0,
) -> Case:
    """(rows, depth) times blocks of `height` outputs x 1 whose values are a palette."""
    case = Case(f"sparse{tuple(locals().values())}")
    x = case.feed(random_array(seed, rows, depth))
    kept = blocked(seed, columns, depth, height, sparsity) != 0
    parts: dict[str, Any] = find_format("block-sparse").encode(
        kept.astype(np.float32), rows=height, columns=1
    )
    form = PaletteForm(parts["values"].shape, bits, 1, 1, len(parts["values"]), height)
    w = case.stored(Stored("block-sparse", {**parts, "values": palette(form, lut, False, seed)}))
    y = case.add("MatMul", x, case.add("Transpose", w, perm=[1, 0]))
    y = case.add("Add", y, case.weight(random_array(seed, columns))) if bias else y
    return case.give(add_epilogue(case, y, epilogue, (columns,), seed))


@st.composite
def _sparse(draw: st.DrawFn) -> Case:
    return sparse(
        draw(st.integers(1, 4)),
        draw(extents(200)),
        draw(extents(100)),
        draw(st.integers(1, 8)),
        draw(st.sampled_from((1, 2, 4, 4, 8, 16, 32))),
        sparsity=draw(sparsities),
        lut=draw(st.sampled_from(LUTS)),
        bias=draw(st.booleans()),
        epilogue=draw(epilogues),
        seed=draw(seeds),
    )


@st.composite
def _dense(draw: st.DrawFn) -> Case:
    vector = draw(st.sampled_from((1, 1, 1, 2, 4, 8)))
    return linear(
        draw(st.one_of(st.integers(1, 3), st.just(1), extents(40))),
        draw(extents(200)),
        draw(extents(150)),
        draw(st.integers(1, 8)),
        vector=vector,
        books=draw(st.sampled_from((1, 1, 1, 2, 3))),
        group=draw(st.sampled_from((0, 0, 8, 16, 24, 32, 48))),
        block=draw(st.sampled_from((0, 0, 0, 8, 32, 64, 9))),
        lut=draw(st.sampled_from(LUTS)),
        scaled=draw(st.booleans()),
        gemm=draw(st.booleans()),
        bias=draw(st.booleans()),
        epilogue=draw(epilogues),
        seed=draw(seeds),
    )


def cases() -> st.SearchStrategy[Case]:
    """Few rows mostly."""
    return st.one_of(_dense(), _dense(), _sparse())


def edges() -> list[Case]:
    """Every width, at odd sizes; one output, one input; tables by group and by block; two and three rows."""
    found = [
        linear(
            1 + bits % 3,
            95 + bits,
            45 + 3 * bits,
            bits,
            lut=LUTS[bits % 3],
            scaled=bits % 2 == 0,
            gemm=bits > 4,
            seed=bits,
        )
        for bits in range(1, 9)
    ]
    return [
        *found,
        linear(1, 1, 1, 4),
        linear(1, 1, 33, 3, lut="float32"),
        linear(1, 65, 1, 2, epilogue="sigmoid"),
        linear(1, 64, 64, 4, group=16, scaled=True, epilogue="residual"),
        linear(2, 64, 96, 3, group=32, block=32, epilogue="relu"),
        linear(1, 70, 50, 4, block=32, lut="int8", bias=False),
        linear(3, 33, 40, 4, books=2, epilogue="scale"),
        linear(1, 40, 24, 4, group=1, lut="float32"),
        linear(1, 40, 24, 3, group=8, block=5),
        linear(9, 33, 40, 4, scaled=True),
        sparse(1, 65, 70, 4, 4, epilogue="relu"),
        sparse(2, 40, 33, 3, 8, lut="float32"),
        sparse(1, 33, 50, 5, 16, sparsity=0.9, bias=False),
        sparse(3, 17, 64, 2, 32, lut="int8", epilogue="residual"),
        sparse(1, 9, 12, 4, 4, sparsity=1.0),
        sparse(1, 20, 24, 8, 4),
    ]
