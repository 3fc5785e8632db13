"""Integers whose scale and zero point are known at run time: products, convolutions, what follows them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from onnx import TensorProto

from ..bounded import Array
from ..drawing import EPILOGUES, add_epilogue, epilogues, extents, planes, seeds
from ..graphs import Case, random_array
from ..integers import WEIGHTS, integer_weights, random_integers

__all__ = ["SAMPLED", "cases", "edges"]

SAMPLED = 4  # one of so many edges runs on other machines by default

SOURCES = ("both signs", "positive", "negative", "zero", "one value")


def values(kind: str, seed: int, *shape: int) -> Array:
    """float32 whose extremes lie on both sides of 0 or on one."""
    x = random_array(seed, *shape) * np.float32(3) + np.float32(0.5)
    made = {"positive": abs(x), "negative": -abs(x), "zero": 0 * x, "one value": np.full_like(x, 0.7)}
    return made.get(kind, x)


def quantised(shape: tuple[int, ...], kind: str = "both signs", seed: int = 0) -> Case:
    """Values, scale and zero point as they are."""
    case = Case(f"quantised{(shape, kind, seed)}")
    case.add("DynamicQuantizeLinear", case.feed(values(kind, seed, *shape)))
    return case.give(*case.nodes[-1][2])


def _scaled(case: Case, sums: str, scale: str, by: Array, bias: Array | None, first: bool) -> str:
    """As exporters write it: scales multiplied first, or one after the other."""
    y = case.add("Cast", sums, to=int(TensorProto.FLOAT))
    if first:
        y = case.add("Mul", y, case.add("Mul", scale, case.weight(by)))
    else:
        y = case.add("Mul", case.add("Mul", y, scale), case.weight(by))
    return y if bias is None else case.add("Add", y, case.weight(bias))


def linear(
    rows: int,
    depth: int,
    columns: int,
    *,
    lead: tuple[int, ...] = (),
    kind: str = "both signs",
    weights: str = "int8",
    per_column: bool = False,
    bias: bool = True,
    first: bool = True,
    epilogue: str = "",
    sums: bool = False,
    seed: int = 0,
) -> Case:
    """(…lead, rows, depth) quantised, times constants; `sums` gives the integers instead of floats."""
    case = Case(f"linear{tuple(locals().values())}")
    x = case.feed(values(kind, seed, *lead, rows, depth))
    case.add("DynamicQuantizeLinear", x)
    whole, scale, zero = case.nodes[-1][2]
    w, w_zero = integer_weights(weights, seed, (depth, columns), columns if per_column else 0, -1)
    zeros = [zero] if w_zero is None else [zero, case.weight(w_zero)]
    y = case.add("MatMulInteger", whole, case.weight(w), *zeros)
    if sums:
        return case.give(y)
    by = abs(random_array(seed + 5, columns if per_column else 1)) / 50 + np.float32(0.001)
    added = random_array(seed, columns) if bias else None
    y = _scaled(case, y, scale, by, added, first)
    return case.give(add_epilogue(case, y, epilogue, (columns,), seed))


def convolution(
    depth: int,
    rows: int,
    plane: tuple[int, ...],
    *,
    kernel: tuple[int, ...] = (1, 1),
    group: int = 1,
    weights: str = "int8",
    kind: str = "both signs",
    bias: bool = True,
    epilogue: str = "",
    sums: bool = False,
    seed: int = 0,
    **attributes: Any,
) -> Case:
    """`depth` inputs and `rows` outputs for each group."""
    own = {k: v for k, v in locals().items() if k != "attributes"} | attributes
    case = Case(f"convolution{own}")
    case.add("DynamicQuantizeLinear", case.feed(values(kind, seed, 1, depth * group, *plane)))
    whole, scale, zero = case.nodes[-1][2]
    w, w_zero = integer_weights(weights, seed, (rows * group, depth, *kernel), 0, 0)
    zeros = [zero] if w_zero is None else [zero, case.weight(w_zero)]
    y = case.add("ConvInteger", whole, case.weight(w), *zeros, group=group, **attributes)
    if sums:
        return case.give(y)
    by = abs(random_array(seed + 5, 1)) / 50 + np.float32(0.001)
    channel = (1, rows * group, *([1] * len(plane)))
    added = random_array(seed, *channel) if bias else None
    y = _scaled(case, y, scale, by, added, True)
    return case.give(add_epilogue(case, y, epilogue, channel, seed))


def product(
    batch: tuple[int, ...], rows: int, depth: int, columns: int, types: tuple[str, str], seed: int = 0
) -> Case:
    """Two integer inputs and their zero points, all fed."""
    case = Case(f"product{(batch, rows, depth, columns, types, seed)}")
    a = case.feed(random_integers(types[0], seed, *batch, rows, depth))
    b = case.feed(random_integers(types[1], seed + 1, *batch, depth, columns))
    zeros = [case.feed(random_integers(t, seed + 2)) for t in types]
    return case.give(case.add("MatMulInteger", a, b, *zeros))


@st.composite
def _linear(draw: st.DrawFn) -> Case:
    return linear(
        draw(st.one_of(st.just(1), extents())),
        draw(st.one_of(extents(), st.integers(70, 700))),
        draw(extents()),
        lead=draw(st.sampled_from(((), (), (1,), (2,), (2, 3)))),
        kind=draw(st.sampled_from((*SOURCES[:1], *SOURCES))),
        weights=draw(st.sampled_from(WEIGHTS)),
        per_column=draw(st.booleans()),
        bias=draw(st.booleans()),
        first=draw(st.booleans()),
        epilogue=draw(epilogues),
        sums=draw(st.sampled_from((False, False, True))),
        seed=draw(seeds),
    )


@st.composite
def _convolution(draw: st.DrawFn) -> Case:
    group = draw(st.sampled_from((1, 1, 1, 2, 8)))
    side = draw(st.sampled_from((1, 1, 2, 3, 3, 5)))
    pad = draw(st.integers(0, side // 2))
    height, width = draw(planes())
    return convolution(
        1 if group == 8 else draw(extents(24)),
        draw(st.sampled_from((1, 2))) if group == 8 else draw(extents(40)),
        (height + side, width + side),
        kernel=(side, side),
        group=group,
        weights=draw(st.sampled_from(WEIGHTS)),
        kind=draw(st.sampled_from(SOURCES)),
        bias=draw(st.booleans()),
        epilogue=draw(epilogues),
        sums=draw(st.sampled_from((False, False, True))),
        seed=draw(seeds),
        strides=draw(st.sampled_from(([1, 1], [1, 1], [2, 2], [2, 1]))),
        pads=[pad, pad, pad, pad],
    )


def cases() -> st.SearchStrategy[Case]:
    """Products mostly."""
    types = st.tuples(st.sampled_from(("int8", "uint8")), st.sampled_from(("int8", "uint8")))
    shapes = st.sampled_from(((), (1,), (3,), (2, 3)))
    both = st.builds(product, shapes, extents(40), extents(40), extents(40), types, seeds)
    alone = st.builds(quantised, st.tuples(extents(), extents()), st.sampled_from(SOURCES), seeds)
    return st.one_of(_linear(), _linear(), _convolution(), _convolution(), both, alone)


def edges() -> list[Case]:
    """Every kind of source and of weights, sides of a vector, every epilogue."""
    found = [quantised((3, 4 + 9 * i), kind, i) for i, kind in enumerate(SOURCES)]
    found += [quantised((1,)), quantised((5, 16, 33)), quantised((257,), seed=3)]
    found += [linear(3, 65, 17, weights=kind, seed=i) for i, kind in enumerate(WEIGHTS)]
    found += [linear(3, 300, 33, weights=kind, sums=True, seed=i) for i, kind in enumerate(WEIGHTS)]
    found += [linear(1, 1, 1), linear(17, 1, 9, bias=False), linear(33, 31, 1, per_column=True)]
    found += [linear(3, 7, 5, lead=(2, 3)), linear(16, 32, 48, first=False, per_column=True)]
    for i, epilogue in enumerate(EPILOGUES):
        found.append(linear(1 + 5 * i, 30 + i, 14 + 4 * i, epilogue=epilogue, seed=i))
    found += [
        product((), 1, 5, 33, ("uint8", "int8")),
        product((2, 3), 9, 15, 17, ("int8", "uint8"), 1),
        product((1,), 5, 300, 16, ("uint8", "uint8"), 2),
    ]
    same: dict[str, Any] = {"kernel": (3, 3), "pads": [1, 1, 1, 1]}
    found += [
        convolution(3, 8, (9, 7), epilogue="relu", **same),
        convolution(16, 5, (1, 1)),
        convolution(5, 17, (7, 9), epilogue="residual-relu", bias=False),
        convolution(1, 1, (8, 9), group=16, strides=[2, 2], **same),
        convolution(
            4, 6, (9, 9), group=2, kernel=(5, 3), dilations=[2, 1], pads=[2, 0, 4, 1], weights="uint8"
        ),
        convolution(40, 3, (5, 5), sums=True, weights="uint8 with zero points", **same),
        convolution(3, 5, (17,), kernel=(4,), pads=[2, 1], strides=[3]),
    ]
    return found
