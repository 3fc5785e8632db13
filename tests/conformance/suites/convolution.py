"""Convolutions: any channels, pixels, windows, strides, pads, dilations, groups; dense and sparse."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ..drawing import EPILOGUES, add_epilogue, blocked, epilogues, extents, planes, seeds, sparsities
from ..graphs import Case, random_array

__all__ = ["cases", "edges"]


def convolution(
    depth: int,
    rows: int,
    plane: tuple[int, ...],
    *,
    kernel: tuple[int, ...] = (1, 1),
    group: int = 1,
    batch: int = 1,
    bias: bool = True,
    epilogue: str = "",
    block: int = 1,
    sparsity: float = 0.0,
    seed: int = 0,
    **attributes: Any,
) -> Case:
    """`depth` inputs and `rows` outputs for each group; zeros of the weights in blocks of `block` outputs."""
    case = Case(f"convolution{_text(locals())}")
    taps = 1
    for extent in kernel:
        taps *= extent
    weights = blocked(seed, rows * group, depth * taps, block, sparsity)
    x = case.feed(random_array(seed, batch, depth * group, *plane))
    operands = [x, case.weight(weights.reshape(rows * group, depth, *kernel))]
    if bias:
        operands.append(case.weight(random_array(seed, rows * group)))
    y = case.add("Conv", *operands, group=group, **attributes)
    per_channel = (1, rows * group, *([1] * len(plane)))
    return case.give(add_epilogue(case, y, epilogue, per_channel, seed))


def _text(given: dict[str, Any]) -> str:
    words = {k: v for k, v in given.items() if k != "attributes"} | given["attributes"]
    return "(" + ", ".join(f"{k}={v!r}" for k, v in words.items()) + ")"


@st.composite
def _pointwise(draw: st.DrawFn) -> Case:
    return convolution(
        draw(extents()),
        draw(extents()),
        draw(planes()),
        batch=draw(st.sampled_from((1, 1, 1, 2))),
        bias=draw(st.booleans()),
        epilogue=draw(epilogues),
        block=draw(st.sampled_from((1, 2, 4, 8, 16))),
        sparsity=draw(sparsities),
        seed=draw(seeds),
        strides=draw(st.sampled_from(([1, 1], [1, 1], [2, 2], [1, 2]))),
    )


@st.composite
def _windowed(draw: st.DrawFn) -> Case:
    kernel = draw(st.sampled_from(((3, 3), (3, 3), (5, 5), (7, 7), (1, 3), (3, 2), (2, 2))))
    dilations = draw(st.sampled_from(([1, 1], [1, 1], [2, 2], [1, 2])))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    height, width = draw(planes())
    pads = [draw(st.integers(0, r - 1)) for r in (*reach, *reach)]
    for axis, extent in enumerate((height, width)):
        missing = reach[axis] - extent - pads[axis] - pads[2 + axis]
        pads[2 + axis] += max(0, missing)  # a window must fit
    return convolution(
        draw(extents(24)),
        draw(extents(40)),
        (height, width),
        kernel=kernel,
        group=draw(st.sampled_from((1, 1, 1, 2, 3))),
        batch=draw(st.sampled_from((1, 1, 1, 2))),
        bias=draw(st.booleans()),
        epilogue=draw(epilogues),
        block=draw(st.sampled_from((1, 2, 4, 8, 16))),
        sparsity=draw(sparsities),
        seed=draw(seeds),
        strides=draw(st.sampled_from(([1, 1], [1, 1], [2, 2], [2, 1], [3, 3]))),
        dilations=dilations,
        pads=pads,
    )


@st.composite
def _in_one_dimension(draw: st.DrawFn) -> Case:
    kernel = draw(st.integers(1, 5))
    return convolution(
        draw(extents(16)),
        draw(extents(16)),
        (draw(extents()) + kernel,),
        kernel=(kernel,),
        group=draw(st.sampled_from((1, 2))),
        seed=draw(seeds),
        strides=[draw(st.integers(1, 3))],
        pads=[draw(st.integers(0, kernel - 1)), draw(st.integers(0, kernel - 1))],
    )


def cases() -> st.SearchStrategy[Case]:
    """1×1 half of the time."""
    return st.one_of(_pointwise(), _windowed(), _pointwise(), _windowed(), _in_one_dimension())


def edges() -> list[Case]:
    """One pixel, one channel, sides of a vector, every block height, all zero, every epilogue."""
    same: dict[str, Any] = {"kernel": (3, 3), "pads": [1, 1, 1, 1]}
    found = [
        convolution(1, 1, (1, 1)),
        convolution(3, 1, (1, 1), seed=1),
        convolution(1, 5, (7, 9)),
        convolution(33, 31, (1, 127), bias=False),
        convolution(7, 17, (9, 7), batch=2),
        convolution(9, 5, (2, 1), **same),
        convolution(5, 9, (1, 1), **same),
        convolution(3, 8, (17, 15), kernel=(3, 3), strides=[2, 2], pads=[0, 0, 1, 1]),
        convolution(3, 7, (20, 19), kernel=(7, 7), strides=[2, 2], pads=[3, 3, 3, 3]),
        convolution(4, 6, (9, 9), kernel=(3, 3), dilations=[2, 3], pads=[2, 3, 2, 3]),
        convolution(4, 6, (9, 9), kernel=(5, 5), auto_pad="SAME_LOWER", strides=[2, 2]),
        convolution(3, 5, (6, 7), group=3, **same),
        convolution(2, 4, (5, 5), group=4),
        convolution(8, 8, (16, 33), epilogue="residual-relu", **same),
    ]
    for i, block in enumerate((1, 2, 4, 8, 16)):
        zeros: dict[str, Any] = {"block": block, "sparsity": 0.95, "seed": i}
        found.append(convolution(65, 63 + i, (7, 9), epilogue=EPILOGUES[i], **zeros))
        found.append(convolution(9, 48 + i, (6, 11), epilogue=EPILOGUES[5 + i], **zeros, **same))
    found.append(convolution(12, 20, (5, 5), block=4, sparsity=0.9, batch=2, seed=3))
    found.append(convolution(12, 8, (3, 7), block=4, sparsity=1.0))
    found.append(convolution(12, 8, (3, 7), block=4, sparsity=1.0, bias=False, epilogue="residual", **same))
    return found
