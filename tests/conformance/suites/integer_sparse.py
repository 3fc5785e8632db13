"""Integer convolutions and products whose weights have blocks of zeros."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from ..drawing import seeds
from ..graphs import Case, random_array
from ..integers import (
    ACTIVATIONS,
    EPILOGUES,
    activation,
    add_integer_epilogue,
    integer_epilogues,
    integer_weights,
    quantised,
    stored_bias,
)

__all__ = ["SAMPLED", "cases", "edges"]

SAMPLED = 3
KINDS = ("int8", "int8 without -128", "uint8")


def sparse(
    depth: int,
    rows: int,
    pixels: int,
    *,
    share: float = 0.8,
    height: int = 4,
    product: bool = False,
    weights: str = "int8",
    types: tuple[str, str] = ("uint8", "uint8"),
    zeros: str = "middle",
    epilogue: str = "",
    seed: int = 0,
) -> Case:
    """`share` of the blocks of `height` outputs × 4 inputs are zero; a 1×1 Conv, or as a `product` MatMul."""
    case = Case(f"sparse{locals()}")
    w, points = integer_weights(weights, seed, (rows, depth), rows, 0)
    gone = np.random.default_rng((seed, rows)).random((-(-rows // height), -(-depth // 4))) < share
    zero = 0 if points is None else points.reshape(-1, 1)
    w = np.where(gone.repeat(height, 0).repeat(4, 1)[:rows, :depth], zero, w).astype(w.dtype)
    scale = abs(random_array(seed + 3, rows)) / np.float32(50) + np.float32(0.002)
    parts = [case.weight(scale), *([] if points is None else [case.weight(points)])]
    if product:
        x = activation(case, types[0], zeros, seed, 2, pixels, depth)
        y = case.add("MatMul", x, case.add("DequantizeLinear", case.weight(w.T.copy()), *parts, axis=1))
        shape: tuple[int, ...] = (rows,)
    else:
        x = activation(case, types[0], zeros, seed, 1, depth, 1, pixels)
        kernel = case.add("DequantizeLinear", case.weight(w[..., None, None]), *parts, axis=0)
        y = case.add("Conv", x, kernel, stored_bias(case, x, kernel, rows, seed))
        shape = (1, rows, 1, 1)
    y = add_integer_epilogue(case, y, epilogue, shape, seed, types[0])
    return case.give(quantised(case, y, types[1], seed) if types[1] else y)


def cases() -> st.SearchStrategy[Case]:
    """Sizes around vectors and tiles, and from few zeros to nothing else."""
    return st.builds(
        sparse,
        st.one_of(st.sampled_from((64, 96, 127, 129)), st.integers(33, 140)),
        st.one_of(st.sampled_from((1, 15, 16, 17, 33, 64)), st.integers(1, 80)),
        st.one_of(st.sampled_from((16, 79, 80, 81, 161)), st.integers(4, 200)),
        share=st.sampled_from((0.5, 0.8, 0.8, 0.95, 1.0)),
        height=st.sampled_from((4, 4, 8)),
        product=st.booleans(),
        weights=st.sampled_from(KINDS),
        types=st.tuples(st.sampled_from(ACTIVATIONS), st.sampled_from((*ACTIVATIONS, ""))),
        zeros=st.sampled_from(("middle", "lowest", "highest", "any")),
        epilogue=integer_epilogues,
        seed=seeds,
    )


def edges() -> list[Case]:
    """Sides of vectors, every epilogue, kind of weights, and nothing but zeros."""
    found = [
        sparse(64, 16, 16),
        sparse(64, 16, 17, types=("int8", "int8"), zeros="any"),
        sparse(130, 33, 81, height=8, share=0.9),
        sparse(61, 15, 160, types=("int8", "")),
        sparse(128, 40, 250, product=True, zeros="lowest"),
        sparse(64, 1, 20, share=0.7),
        sparse(70, 20, 33, share=1.0),
    ]
    for i, kind in enumerate(KINDS):
        found.append(sparse(80, 17 + i, 50 + i, weights=kind, zeros="highest", product=i == 1, seed=i))
    for i, epilogue in enumerate(EPILOGUES):
        both = (ACTIVATIONS[i % 2], ACTIVATIONS[i // 2 % 2])
        found.append(
            sparse(66, 30 + i, 40 + 7 * i, types=both, epilogue=epilogue, product=i % 3 == 1, seed=i)
        )
    return found
