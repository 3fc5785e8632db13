"""Matrix products of integers: constant weights, integers on both sides, types, zero points, what follows."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ..drawing import extents, seeds
from ..graphs import Case, random_array
from ..integers import (
    ACTIVATIONS,
    EPILOGUES,
    WEIGHTS,
    ZEROS,
    activation,
    add_integer_epilogue,
    floats,
    integer_epilogues,
    quantised,
    stored_bias,
    stored_weights,
    zero_points,
)

__all__ = ["SAMPLED", "cases", "edges"]

SAMPLED = 4  # one of so many edges runs on other machines by default


def linear(
    rows: int,
    depth: int,
    columns: int,
    *,
    lead: tuple[int, ...] = (),
    gemm: bool = False,
    turned: bool = False,
    bias: str = "int32",
    epilogue: str = "",
    weights: str = "int8",
    per_channel: bool = True,
    types: tuple[str, str] = ("uint8", "uint8"),
    zeros: str = "middle",
    tight: float = 1.0,
    seed: int = 0,
) -> Case:
    """(…lead, rows, depth) times a constant; `types` of the left side and of the result ("" float)."""
    case = Case(f"integer_linear{locals()}")
    x = activation(case, types[0], zeros, seed, *lead, rows, depth)
    turned = turned and gemm
    shape = (columns, depth) if turned else (depth, columns)
    w = stored_weights(case, weights, seed, shape, 0 if turned else 1, per_channel)
    added = []
    if bias == "int32" and gemm:
        added = [stored_bias(case, x, w, columns, seed)]
    elif bias:
        added = [case.weight(random_array(seed, columns))]
    if gemm:
        y = case.add("Gemm", x, w, *added, transB=int(turned))
    else:
        y = case.add("MatMul", x, w)
        y = case.add("Add", y, *added) if added else y
    y = add_integer_epilogue(case, y, epilogue, (columns,), seed, types[0])
    return case.give(quantised(case, y, types[1], seed, tight) if types[1] else y)


def product(
    batch: tuple[int, ...],
    rows: int,
    depth: int,
    columns: int,
    turned: bool,
    types: tuple[str, str, str] = ("uint8", "int8", "uint8"),
    zeros: str = "middle",
    seed: int = 0,
) -> Case:
    """Integers on both sides; `turned` gives the second as (columns, depth)."""
    case = Case(f"integer_product{(batch, rows, depth, columns, turned, types, zeros, seed)}")
    a = activation(case, types[0], zeros, seed, *batch, rows, depth)
    shape = (columns, depth) if turned else (depth, columns)
    b = activation(case, types[1], zeros, seed + 1, *batch, *shape)
    if turned:
        last = len(batch) + 1
        b = case.add("Transpose", b, perm=[*range(len(batch)), last, last - 1])
    y = case.add("MatMul", a, b)
    return case.give(quantised(case, y, types[2], seed) if types[2] else y)


def attention(heads: int, queries: int, keys: int, width: int, dtype: str, seed: int = 0) -> Case:
    """Scores, softmax and their product with values, all of it rounded to integers in between."""
    case = Case(f"integer_attention{(heads, queries, keys, width, dtype, seed)}")
    q, k, v = (
        activation(case, dtype, ZEROS[(seed + i) % 4], seed + i, 1, heads, n, width)
        for i, n in enumerate((queries, keys, keys))
    )
    scores = case.add("MatMul", q, case.add("Transpose", k, perm=[0, 1, 3, 2]))
    scores = case.add("Mul", scores, case.weight(random_array(seed, 1) * 0 + 0.3))
    rounded = floats(case, quantised(case, scores, dtype, seed))
    shares = floats(case, quantised(case, case.add("Softmax", rounded, axis=-1), "uint8", seed))
    return case.give(quantised(case, case.add("MatMul", shares, v), dtype, seed))


types = st.tuples(st.sampled_from(ACTIVATIONS), st.sampled_from((*ACTIVATIONS, *ACTIVATIONS, "")))


@st.composite
def _linear(draw: st.DrawFn) -> Case:
    gemm = draw(st.booleans())
    return linear(
        draw(st.one_of(st.just(1), extents())),
        draw(st.one_of(extents(), st.integers(70, 700))),
        draw(extents()),
        lead=() if gemm else draw(st.sampled_from(((), (), (1,), (2,), (2, 3)))),
        gemm=gemm,
        turned=draw(st.booleans()),
        bias=draw(st.sampled_from(("int32", "float", ""))),
        epilogue=draw(integer_epilogues),
        weights=draw(st.sampled_from((*WEIGHTS[:2], *WEIGHTS))),
        per_channel=draw(st.booleans()),
        types=draw(types),
        zeros=draw(zero_points),
        tight=draw(st.sampled_from((1.0, 1.0, 0.4))),
        seed=draw(seeds),
    )


def cases() -> st.SearchStrategy[Case]:
    """Constant weights mostly."""
    shapes = st.sampled_from(((), (1,), (3,), (2, 3)))
    three = st.tuples(types, st.sampled_from(ACTIVATIONS)).map(lambda t: (t[0][0], t[1], t[0][1]))
    inner = st.one_of(extents(), st.integers(70, 300))
    both = st.builds(
        product, shapes, extents(40), inner, extents(40), st.booleans(), three, zero_points, seeds
    )
    heads = st.builds(
        attention,
        st.integers(1, 3),
        extents(40),
        extents(70),
        extents(40),
        st.sampled_from(ACTIVATIONS),
        seeds,
    )
    return st.one_of(_linear(), _linear(), _linear(), both, both, heads)


def edges() -> list[Case]:
    """Every type, kind of weights, zero point and epilogue; sides of a vector; one row, odd and long sums."""
    found = [
        linear(1, 1, 1),
        linear(1, 65, 33, gemm=True, turned=True),
        linear(17, 1, 9, gemm=True, bias=""),
        linear(33, 31, 1, epilogue="relu"),
        linear(3, 7, 5, lead=(2, 3), epilogue="residual"),
        linear(4, 1001, 20, gemm=True, types=("int8", "int8")),
        linear(1, 999, 64, per_channel=False, types=("int8", "")),
        linear(16, 32, 48, types=("uint8", ""), tight=0.5),
    ]
    for i, kind in enumerate(WEIGHTS):
        more: dict[str, Any] = {"weights": kind, "zeros": ZEROS[i % 4], "seed": i}
        found.append(linear(1 + 4 * i, 67, 18 + i, gemm=bool(i % 2), turned=True, **more))
    for i, epilogue in enumerate(EPILOGUES):
        both = (ACTIVATIONS[i % 2], ACTIVATIONS[i // 2 % 2] if i % 3 else "")
        found.append(
            linear(2 + 2 * i, 24 + i, 13 + 4 * i, epilogue=epilogue, types=both, zeros=ZEROS[i % 4], seed=i)
        )
    found += [
        product((2, 3), 9, 16, 17, True),
        product((), 1, 5, 33, False, ("int8", "int8", "int8"), "lowest", 1),
        product((1,), 16, 130, 16, True, ("int8", "uint8", ""), "highest", 2),
        product((2,), 7, 64, 64, False, ("uint8", "uint8", "int8"), "any", 3),
        attention(2, 9, 17, 8, "uint8"),
        attention(1, 16, 33, 20, "int8", 1),
    ]
    return found
