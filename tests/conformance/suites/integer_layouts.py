"""Images that change between planes and pixels: rounded on the way, given as integers, read as floats."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from ..drawing import extents, planes, seeds
from ..graphs import Case, random_array
from ..integers import ACTIVATIONS, ZEROS, activation, floats, quantised, stored_weights, zero_points

__all__ = ["SAMPLED", "cases", "edges"]

SAMPLED = 4  # one of so many edges runs on other machines by default
ENDS = ("integers", "floats", "both", "function", "product", "flat", "turned")


def layouts(
    channels: int,
    plane: tuple[int, int],
    start: str,
    end: str,
    dtype: str = "uint8",
    zeros: str = "middle",
    batch: int = 1,
    outputs: int = 17,
    seed: int = 0,
) -> Case:
    """A 1×1 convolution of floats that are rounded first, or of integers; its result in one or more forms."""
    case = Case(f"integer_layouts{(channels, plane, start, end, dtype, zeros, batch, outputs, seed)}")
    if start == "integers":
        x = activation(case, dtype, zeros, seed, batch, channels, *plane)
    else:
        x = case.feed(random_array(seed, batch, channels, *plane))
        x = case.add("Relu", x) if start == "function" else x
        x = floats(case, quantised(case, x, dtype, seed))
    w = stored_weights(case, "int8 without -128", seed, (outputs, channels, 1, 1), 0, True)
    y = quantised(case, case.add("Conv", x, w), dtype, seed)
    if end in ("integers", "both"):
        case.give(y)
    if end == "integers":
        return case
    z = floats(case, y)
    if end == "function":
        z = case.add("Tanh", z)
    if end == "product":
        z = case.add("Mul", z, case.feed(random_array(seed + 1, batch, outputs, *plane)))
    if end == "flat":
        z = case.add("Reshape", z, case.weight(np.array([batch, -1], np.int64)))
    if end == "turned":
        z = case.add("Transpose", z, perm=[0, 2, 3, 1])
    return case.give(z)


def cases() -> st.SearchStrategy[Case]:
    """Channels and pixels around blocks of 16."""
    return st.builds(
        layouts,
        extents(40),
        planes(100),
        st.sampled_from(("integers", "floats", "function")),
        st.sampled_from(ENDS),
        st.sampled_from(ACTIVATIONS),
        zero_points,
        st.sampled_from((1, 1, 2)),
        extents(40),
        seeds,
    )


def edges() -> list[Case]:
    """Few channels, pitches that are not whole, planes of less than a block."""
    found = []
    shapes = ((1, (1, 1)), (3, (4, 4)), (5, (1, 17)), (17, (3, 5)), (24, (16, 1)), (33, (5, 7)), (16, (2, 9)))
    for i, (channels, plane) in enumerate(shapes):
        for j, start in enumerate(("floats", "integers", "function")):
            end, zeros = ENDS[(i + 2 * j) % len(ENDS)], ZEROS[(i + j) % 4]
            own = (channels, plane, start, end, ACTIVATIONS[(i + j) % 2], zeros)
            found.append(layouts(*own, 1 + i % 2, shapes[-1 - i][0], i))
    return found
