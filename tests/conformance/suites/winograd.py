"""3×3 convolutions of stride 1 with so many channels and pixels that Winograd's transforms pay."""

from __future__ import annotations

from hypothesis import strategies as st

from ..drawing import epilogues, extents, seeds
from ..graphs import Case
from .convolution import convolution

__all__ = ["cases", "edges"]

LEAST = 16  # channels


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Where transforms do not pay on a target, the same convolution runs directly."""
    pads = [draw(st.integers(0, 2)) for _ in range(4)]
    return convolution(
        LEAST + draw(extents(64)),
        LEAST + draw(extents(64)),
        (draw(st.integers(3, 30)), draw(st.integers(3, 30))),
        kernel=(3, 3),
        pads=pads,
        batch=draw(st.sampled_from((1, 1, 2))),
        bias=draw(st.booleans()),
        epilogue=draw(epilogues),
        seed=draw(seeds),
    )


def edges() -> list[Case]:
    """Planes of whole tiles and of ragged ones, blocks of channels and one more, pads on some sides."""
    return [
        convolution(64, 64, (16, 16), kernel=(3, 3), pads=[1, 1, 1, 1]),
        convolution(65, 67, (13, 15), kernel=(3, 3), pads=[1, 1, 1, 1], epilogue="residual-relu"),
        convolution(57, 66, (18, 21), kernel=(3, 3), pads=[0, 0, 0, 0], bias=False, seed=1),
        convolution(72, 49, (15, 14), kernel=(3, 3), pads=[0, 2, 1, 0], batch=2, epilogue="silu", seed=2),
        convolution(32, 80, (29, 11), kernel=(3, 3), pads=[2, 1, 2, 1], epilogue="scale", seed=3),
        convolution(16, 16, (40, 41), kernel=(3, 3), pads=[1, 1, 1, 1], epilogue="clip", seed=4),
    ]
