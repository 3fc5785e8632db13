"""Depthwise convolutions, alone, with the 1×1 convolution behind them, and squeeze-and-excite blocks."""

from __future__ import annotations

from hypothesis import strategies as st

from ..drawing import EPILOGUES, add_epilogue, blocked, epilogues, extents, planes, seeds
from ..graphs import Case, random_array

__all__ = ["cases", "edges"]


def depthwise(
    channels: int,
    plane: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilations: tuple[int, int] = (1, 1),
    *,
    multiplier: int = 1,
    batch: int = 1,
    epilogue: str = "",
    pointwise: int = 0,
    seed: int = 0,
) -> Case:
    """`multiplier` outputs for each channel; then, unless 0, `pointwise` outputs of a 1×1 convolution."""
    case = Case(f"depthwise{tuple(locals().values())}")
    rows = channels * multiplier
    x = case.feed(random_array(seed, batch, channels, *plane))
    w = case.weight(random_array(seed, rows, 1, *kernel))
    attributes = {"strides": list(strides), "pads": list(pads), "dilations": list(dilations)}
    y = case.add("Conv", x, w, case.weight(random_array(seed, rows)), group=channels, **attributes)
    y = add_epilogue(case, y, epilogue, (1, rows, 1, 1), seed)
    if pointwise:
        dense = blocked(seed, pointwise, rows, 4, 0.0 if seed % 2 else 0.8)
        y = case.add("Conv", y, case.weight(dense.reshape(pointwise, rows, 1, 1)))
        y = add_epilogue(case, y, "relu", (1, pointwise, 1, 1), seed)
    return case.give(y)


def squeeze_excite(
    channels: int, plane: tuple[int, int], squeezed: int, rows: int, *, batch: int = 1, seed: int = 0
) -> Case:
    """x · σ(expand(swish(squeeze(mean(x))))), then `rows` outputs of a 1×1 convolution."""
    case = Case(f"squeeze_excite{tuple(locals().values())}")
    x = case.feed(random_array(seed, batch, channels, *plane))
    y = case.add("GlobalAveragePool", x)
    for m, k in ((squeezed, channels), (channels, squeezed)):
        weights = blocked(seed, m, k, 4, 0.0 if seed % 3 else 0.8).reshape(m, k, 1, 1)
        y = case.add("Conv", y, case.weight(weights), case.weight(random_array(seed, m)))
        gate = case.add("Sigmoid", y)
        y = gate if m == channels else case.add("Mul", y, gate)
    dense = blocked(seed, rows, channels, 4, 0.0).reshape(rows, channels, 1, 1)
    return case.give(case.add("Conv", case.add("Mul", x, y), case.weight(dense)))


@st.composite
def _squeeze_excite(draw: st.DrawFn) -> Case:
    return squeeze_excite(
        draw(extents(150)),
        draw(planes(60)),
        draw(extents(40)),
        draw(extents(20)),
        batch=draw(st.sampled_from((1, 1, 2))),
        seed=draw(seeds),
    )


def cases() -> st.SearchStrategy[Case]:
    """Depthwise convolutions mostly."""
    return st.one_of(_depthwise(), _depthwise(), _depthwise(), _squeeze_excite())


@st.composite
def _depthwise(draw: st.DrawFn) -> Case:
    """3×3 and 5×5 mostly, strides 1 and 2 mostly."""
    kernel = draw(st.sampled_from(((3, 3), (5, 5), (3, 3), (5, 5), (7, 7), (2, 3), (1, 5))))
    dilations = draw(st.sampled_from(((1, 1), (1, 1), (1, 1), (2, 2), (1, 3))))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    plane = draw(planes(600))
    pads = [draw(st.integers(0, r - 1)) for r in (*reach, *reach)]
    for axis in range(2):
        pads[2 + axis] += max(0, reach[axis] - plane[axis] - pads[axis] - pads[2 + axis])
    return depthwise(
        draw(extents(33)),
        plane,
        kernel,
        draw(st.sampled_from(((1, 1), (2, 2), (1, 1), (2, 2), (2, 1), (3, 3)))),
        (pads[0], pads[1], pads[2], pads[3]),
        dilations,
        multiplier=draw(st.sampled_from((1, 1, 1, 2))),
        batch=draw(st.sampled_from((1, 1, 2))),
        epilogue=draw(epilogues),
        pointwise=draw(st.sampled_from((0, 0, 1, 5, 16, 33))),
        seed=draw(seeds),
    )


def edges() -> list[Case]:
    """Every side of a vector, for both common windows and strides."""
    found = []
    for i, width in enumerate((1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 49)):
        for j, (k, s) in enumerate(((3, 1), (3, 2), (5, 1), (5, 2))):
            if (i + j) % 2:  # a checkerboard of widths and windows
                continue
            pads = (k // 2,) * 4 if i % 3 else (0, 0, k - 1, k - 1)
            plane, kernel = (max(1, 18 - width), width), (k, k)
            found.append(depthwise(i + 1, plane, kernel, (s, s), pads, epilogue=EPILOGUES[i % 10], seed=i))
    found.append(depthwise(1, (1, 1), (3, 3), (1, 1), (1, 1, 1, 1)))
    found.append(depthwise(8, (14, 14), (3, 3), (1, 1), (1, 1, 1, 1), epilogue="clip", pointwise=24))
    found.append(depthwise(9, (7, 9), (5, 5), (2, 2), (2, 2, 2, 2), epilogue="relu", pointwise=17, seed=1))
    found.append(depthwise(4, (9, 8), (3, 3), (1, 1), (2, 2, 2, 2), (2, 2), batch=2))
    found.append(depthwise(3, (9, 8), (3, 3), (1, 1), (1, 1, 1, 1), multiplier=2))
    found.append(squeeze_excite(1, (3, 3), 1, 1, seed=1))
    found.append(squeeze_excite(33, (7, 7), 9, 16, seed=1))
    found.append(squeeze_excite(144, (5, 6), 6, 24, batch=2, seed=2))
    return found
