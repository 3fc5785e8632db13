"""Integer convolutions of 3×3 with strides of one, of as many channels as Winograd's transforms are worth."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ..drawing import seeds
from ..graphs import Case
from ..integers import ACTIVATIONS, ZEROS, integer_epilogues
from .integer_convolution import convolution

__all__ = ["SAMPLED", "cases", "edges"]

SAMPLED = 2
KINDS = ("int8", "int8 without -128")


def square(depth: int, rows: int, plane: tuple[int, int], margin: int = 1, **options: Any) -> Case:
    """A convolution with the same margin on all sides."""
    return convolution(depth, rows, plane, kernel=(3, 3), pads=[margin] * 4, **options)


def cases() -> st.SearchStrategy[Case]:
    """Even and odd planes, channels around vectors, one and several blocks of tiles."""
    return st.builds(
        square,
        st.sampled_from((32, 33, 47, 64)),
        st.sampled_from((32, 33, 40, 55)),
        st.one_of(st.tuples(st.integers(3, 12), st.integers(3, 12)), st.just((37, 36))),
        st.sampled_from((0, 1, 1)),
        batch=st.sampled_from((1, 1, 2)),
        weights=st.sampled_from(KINDS),
        types=st.tuples(st.sampled_from(ACTIVATIONS), st.sampled_from((*ACTIVATIONS, ""))),
        zeros=st.sampled_from(ZEROS),
        epilogue=integer_epilogues,
        seed=seeds,
    )


def edges() -> list[Case]:
    """Sides of tiles and vectors, both signs, residuals, and more tiles than a block holds."""
    return [
        square(32, 32, (6, 7)),
        square(32, 33, (3, 3), 0, types=("int8", "int8"), zeros="any", weights="int8 without -128"),
        square(45, 40, (5, 8), epilogue="residual", types=("uint8", "int8"), zeros="lowest"),
        square(64, 34, (9, 9), batch=2, types=("int8", ""), zeros="highest", seed=1),
        square(64, 32, (38, 41), epilogue="relu", seed=2),
        square(33, 47, (4, 3), epilogue="silu", types=("int8", "uint8"), seed=3),
    ]
