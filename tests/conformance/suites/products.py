"""Matrix products: dense and sparse weights, few rows and many, inputs on both sides, Gemm's options."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ..drawing import EPILOGUES, add_epilogue, blocked, epilogues, extents, seeds, sparsities
from ..graphs import Case, random_array

__all__ = ["cases", "edges"]


def linear(
    rows: int,
    depth: int,
    columns: int,
    *,
    lead: tuple[int, ...] = (),
    gemm: bool = False,
    turned: bool = False,
    bias: bool = True,
    epilogue: str = "",
    block: int = 1,
    sparsity: float = 0.0,
    seed: int = 0,
) -> Case:
    """(…lead, rows, depth) times a constant whose zeros come in blocks of `block` columns."""
    case = Case(f"linear{tuple(locals().values())}")
    x = case.feed(random_array(seed, *lead, rows, depth))
    stored = blocked(seed, columns, depth, block, sparsity)
    if gemm:
        w = case.weight(stored if turned else stored.T.copy())
        c = [case.weight(random_array(seed, columns))] if bias else []
        y = case.add("Gemm", x, w, *c, transB=int(turned))
    else:
        y = case.add("MatMul", x, case.weight(stored.T.copy()))
        if bias:
            y = case.add("Add", y, case.weight(random_array(seed, columns)))
    return case.give(add_epilogue(case, y, epilogue, (columns,), seed))


def product(batch: tuple[int, ...], rows: int, depth: int, columns: int, turned: bool, seed: int) -> Case:
    """Two inputs multiplied; `turned` gives the second as (columns, depth)."""
    case = Case(f"product{(batch, rows, depth, columns, turned, seed)}")
    a = case.feed(random_array(seed, *batch, rows, depth))
    b = case.feed(random_array(seed + 1, *batch, *((columns, depth) if turned else (depth, columns))))
    if turned:
        last = len(batch) + 1
        b = case.add("Transpose", b, perm=[*range(len(batch)), last, last - 1])
    return case.give(case.add("MatMul", a, b))


@st.composite
def _linear(draw: st.DrawFn) -> Case:
    gemm = draw(st.booleans())
    return linear(
        draw(st.one_of(st.just(1), extents())),
        draw(extents()),
        draw(extents()),
        lead=() if gemm else draw(st.sampled_from(((), (), (1,), (2,), (2, 3)))),
        gemm=gemm,
        turned=draw(st.booleans()),
        bias=draw(st.booleans()),
        epilogue=draw(epilogues),
        block=draw(st.sampled_from((1, 2, 4, 8, 16))),
        sparsity=draw(sparsities),
        seed=draw(seeds),
    )


def cases() -> st.SearchStrategy[Case]:
    """Constant weights mostly."""
    shapes = st.sampled_from(((), (1,), (3,), (2, 3)))
    both = st.builds(product, shapes, extents(40), extents(40), extents(40), st.booleans(), seeds)
    return st.one_of(_linear(), _linear(), _linear(), both)


def edges() -> list[Case]:
    """One row, one column, one input; every block height with few and many rows; all zero."""
    found = [
        linear(1, 1, 1),
        linear(1, 65, 33, gemm=True, turned=True),
        linear(17, 1, 9, gemm=True, bias=False),
        linear(33, 31, 1, epilogue="relu"),
        linear(3, 7, 5, lead=(2, 3), epilogue="residual"),
        linear(16, 32, 48, epilogue="gelu"),
        product((2, 3), 9, 16, 17, True, 0),
        product((), 1, 5, 33, False, 1),
        product((1,), 16, 33, 16, True, 2),
    ]
    for i, block in enumerate((1, 2, 4, 8, 16)):
        zeros: dict[str, Any] = {"block": block, "sparsity": 0.95, "seed": i}
        found.append(linear(1, 65, 63 + i, gemm=True, turned=True, epilogue=EPILOGUES[i], **zeros))
        found.append(linear(1 + 18 * (i % 2), 63, 64, gemm=True, bias=i > 2, **zeros))
        found.append(linear(19 + 7 * i, 47, 64 + i, epilogue=EPILOGUES[5 + i], **zeros))
    found.append(linear(2, 9, 12, block=4, sparsity=1.0))
    found.append(linear(37, 9, 12, block=4, sparsity=1.0, bias=False))
    return found
