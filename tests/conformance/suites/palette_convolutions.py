"""Convolutions, and products of many rows, whose palettes are decoded block by block."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from hypothesis import strategies as st

from gossamer.kernels.formats.block_sparse import BlockSparse
from gossamer.kernels.formats.palette import PaletteForm, PaletteFormat
from gossamer.passes.storing import Stored

from ..drawing import EPILOGUES, add_epilogue, blocked, epilogues, extents, planes, seeds
from ..graphs import Case, random_array
from .palettes import LUTS, linear, palette

__all__ = ["cases", "edges"]


def convolution(
    depth: int,
    rows: int,
    plane: tuple[int, int],
    bits: int,
    *,
    kernel: tuple[int, int] = (1, 1),
    groups: int = 1,
    batch: int = 1,
    vector: int = 1,
    books: int = 1,
    group: int = 0,
    block: int = 0,
    lut: str = "float16",
    scaled: bool = False,
    bias: bool = True,
    epilogue: str = "",
    seed: int = 0,
    **attributes: Any,
) -> Case:
    """`depth` inputs and `rows` outputs of each of `groups`; 0 for `group` or `block`: one table for all."""
    case = Case(f"palette convolution{tuple(locals().values())}")
    outputs, shape = rows * groups, (rows * groups, depth, *kernel)
    whole = -(-outputs // vector) * vector
    form = PaletteForm(shape, bits, vector, books, group or whole, block or prod(shape[1:]))
    x = case.feed(random_array(seed, batch, depth * groups, *plane))
    operands = [x, case.stored(palette(form, lut, scaled, seed))]
    if bias:
        operands.append(case.weight(random_array(seed, outputs)))
    pads = [(k - 1) // 2 for k in kernel] * 2
    y = case.add("Conv", *operands, group=groups, pads=pads, **attributes)
    return case.give(add_epilogue(case, y, epilogue, (1, outputs, 1, 1), seed))


def joint(
    depth: int,
    rows: int,
    plane: tuple[int, int],
    height: int,
    bits: int,
    *,
    kernel: tuple[int, int] = (1, 1),
    batch: int = 1,
    sparsity: float = 0.8,
    epilogue: str = "",
    seed: int = 0,
    **attributes: Any,
) -> Case:
    """Blocks of `height` × 1 of which most are zero; the values of the others are a palette."""
    case = Case(f"joint convolution{tuple(locals().values())}")
    rng = np.random.default_rng((seed, rows, depth))
    levels = np.append(rng.standard_normal((1 << bits) - 1), 0).astype(np.float32)
    kept = blocked(seed, rows, depth * prod(kernel), height, sparsity) != 0
    weights = np.where(kept, rng.choice(levels, kept.shape), 0).astype(np.float32)
    parts = BlockSparse().encode(weights.reshape(rows, depth, *kernel), rows=height, columns=1)
    values = Stored("palette", PaletteFormat().encode(parts["values"]))
    x = case.feed(random_array(seed, batch, depth, *plane))
    operands = [
        x,
        case.stored(Stored("block-sparse", {**parts, "values": values})),
        case.weight(random_array(seed, rows)),
    ]
    y = case.add("Conv", *operands, pads=[(k - 1) // 2 for k in kernel] * 2, **attributes)
    return case.give(add_epilogue(case, y, epilogue, (1, rows, 1, 1), seed))


@st.composite
def _joint(draw: st.DrawFn) -> Case:
    return joint(
        draw(extents()),
        draw(extents()),
        draw(planes()),
        draw(st.sampled_from((1, 2, 4, 4, 8, 16))),
        draw(st.integers(1, 5)),
        kernel=draw(st.sampled_from(((1, 1), (1, 1), (3, 3)))),
        batch=draw(st.sampled_from((1, 1, 2))),
        sparsity=draw(st.sampled_from((0.5, 0.7, 0.9))),
        epilogue=draw(epilogues),
        seed=draw(seeds),
        strides=draw(st.sampled_from(([1, 1], [2, 2]))),
    )


@st.composite
def _dense(draw: st.DrawFn) -> Case:
    """Windows of 1 × 1 half of the time; 3 × 3 with many channels by Winograd's transforms."""
    vector = draw(st.sampled_from((1, 1, 1, 2, 4, 8)))
    kernel = draw(st.sampled_from(((1, 1), (1, 1), (1, 1), (3, 3), (3, 3), (1, 5))))
    many = draw(st.booleans())
    return convolution(
        draw(extents(70 if many else 24)) + (16 if many else 0),
        draw(extents(70 if many else 40)) + (16 if many else 0),
        draw(planes()),
        draw(st.integers(1, 8)),
        kernel=kernel,
        groups=draw(st.sampled_from((1, 1, 1, 2, 3))) if not many else 1,
        batch=draw(st.sampled_from((1, 1, 2))),
        vector=vector,
        books=draw(st.sampled_from((1, 1, 1, 2))),
        group=draw(st.sampled_from((0, 0, 8, 16, 24))),
        block=draw(st.sampled_from((0, 0, 0, 8, 32, 9))),
        lut=draw(st.sampled_from(LUTS)),
        scaled=draw(st.booleans()),
        bias=draw(st.booleans()),
        epilogue=draw(epilogues),
        seed=draw(seeds),
        strides=draw(st.sampled_from(([1, 1], [1, 1], [2, 2]))),
    )


def cases() -> st.SearchStrategy[Case]:
    """Blocks of palettes in a third of them."""
    return st.one_of(_dense(), _dense(), _joint())


def edges() -> list[Case]:
    """Every width and epilogue; one pixel or tile; Winograd; tables of all kinds; blocks of palettes."""
    three: dict[str, Any] = {"kernel": (3, 3)}
    found = [
        convolution(
            60 + bits, 44 + bits, (7, 7 + bits), bits, lut=LUTS[bits % 3], epilogue=EPILOGUES[bits], seed=bits
        )
        for bits in range(1, 9)
    ]
    return [
        *found,
        convolution(48, 64, (1, 1), 4),
        convolution(65, 33, (1, 1), 3, scaled=True, batch=2, epilogue="relu"),
        convolution(64, 72, (16, 16), 4, scaled=True, epilogue="residual-relu", **three),
        convolution(65, 67, (13, 15), 3, bias=False, batch=2, **three),
        convolution(33, 40, (20, 19), 4, strides=[2, 2], **three),
        convolution(32, 24, (9, 9), 4, groups=3, scaled=True, **three),
        convolution(64, 64, (14, 14), 4, group=16, epilogue="silu"),
        convolution(64, 64, (14, 14), 4, group=8, block=32, lut="int8"),
        convolution(64, 64, (5, 5), 2, group=1, block=9),
        convolution(48, 64, (9, 9), 8, vector=8, books=2, scaled=True),
        convolution(80, 64, (9, 9), 6, vector=4),
        convolution(40, 70, (12, 12), 5, vector=2, bias=False, **three),
        joint(64, 64, (14, 14), 4, 4),
        joint(65, 63, (7, 7), 8, 3, epilogue="relu"),
        joint(48, 40, (9, 9), 4, 5, kernel=(3, 3), batch=2, strides=[2, 2]),
        joint(40, 64, (5, 5), 16, 2, kernel=(3, 3), epilogue="residual"),
        joint(40, 64, (1, 1), 2, 4),
        joint(64, 48, (1, 37), 1, 4),
        linear(64, 96, 80, 4, epilogue="gelu"),
        linear(21, 1700, 78, 4, scaled=True, epilogue="relu"),
        linear(21, 1650, 80, 3),
        linear(33, 70, 49, 3, group=16, scaled=True, epilogue="residual"),
        linear(17, 64, 64, 6, vector=4, books=2),
    ]
