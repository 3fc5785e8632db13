"""Convolutions of integers: windows, groups, depthwise, types, zero points, scales, and what follows."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ..drawing import extents, planes, seeds
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


def convolution(
    depth: int,
    rows: int,
    plane: tuple[int, ...],
    *,
    kernel: tuple[int, ...] = (1, 1),
    group: int = 1,
    batch: int = 1,
    bias: str = "int32",
    epilogue: str = "",
    weights: str = "int8",
    per_channel: bool = True,
    types: tuple[str, str] = ("uint8", "uint8"),
    zeros: str = "middle",
    tight: float = 1.0,
    seed: int = 0,
    **attributes: Any,
) -> Case:
    """`depth` inputs and `rows` outputs for each group; `types` of the image and of the result ("" float)."""
    own = {k: v for k, v in locals().items() if k != "attributes"} | attributes
    case = Case(f"integer_convolution{own}")
    channels = rows * group
    x = activation(case, types[0], zeros, seed, batch, depth * group, *plane)
    operands = [x, stored_weights(case, weights, seed, (channels, depth, *kernel), 0, per_channel)]
    if bias == "int32":
        operands.append(stored_bias(case, operands[0], operands[1], channels, seed))
    elif bias == "float":
        operands.append(case.weight(random_array(seed, channels)))
    y = case.add("Conv", *operands, group=group, **attributes)
    channel = (1, channels, *([1] * len(plane)))
    y = add_integer_epilogue(case, y, epilogue, channel, seed, types[0])
    return case.give(quantised(case, y, types[1], seed, tight) if types[1] else y)


def pair(depth: int, middle: int, rows: int, plane: tuple[int, int], stride: int = 1, seed: int = 0) -> Case:
    """1×1, depthwise 3×3, 1×1 and the sum with the input, as in MobileNet-v2: nothing leaves the integers."""
    case = Case(f"pair{(depth, middle, rows, plane, stride, seed)}")
    x = activation(case, "int8", "any", seed, 1, depth, *plane)
    y = x
    for i, (out, own, side, group) in enumerate(
        ((middle, depth, 1, 1), (middle, 1, 3, middle), (rows, middle, 1, 1))
    ):
        w = stored_weights(case, "int8 without -128", seed + i, (out, own, side, side), 0, True)
        b = stored_bias(case, y, w, out, seed + i)
        same: dict[str, Any] = {"pads": [1] * 4, "strides": [stride] * 2} if side == 3 else {}
        y = case.add("Conv", y, w, b, group=group, **same)
        y = case.add("Relu", y) if i < 2 else y
        y = floats(case, quantised(case, y, "int8", seed))
    if stride == 1 and depth == rows:
        y = case.add("Add", x, y)
    return case.give(quantised(case, y, "int8", seed))


types = st.tuples(st.sampled_from(ACTIVATIONS), st.sampled_from((*ACTIVATIONS, *ACTIVATIONS, "")))
biases = st.sampled_from(("int32", "int32", "float", ""))
# most exporters write symmetric int8
kinds = st.sampled_from((*WEIGHTS[:2], *WEIGHTS[:2], *WEIGHTS))
tightness = st.sampled_from((1.0, 1.0, 0.4))


@st.composite
def _common(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "batch": draw(st.sampled_from((1, 1, 1, 2))),
        "bias": draw(biases),
        "epilogue": draw(integer_epilogues),
        "weights": draw(kinds),
        "per_channel": draw(st.booleans()),
        "types": draw(types),
        "zeros": draw(zero_points),
        "tight": draw(tightness),
        "seed": draw(seeds),
    }


@st.composite
def _pointwise(draw: st.DrawFn) -> Case:
    strides = draw(st.sampled_from(([1, 1], [1, 1], [2, 2])))
    depth, rows, plane = draw(extents()), draw(extents()), draw(planes())
    return convolution(depth, rows, plane, strides=strides, **draw(_common()))


@st.composite
def _windowed(draw: st.DrawFn) -> Case:
    kernel = draw(st.sampled_from(((3, 3), (3, 3), (5, 5), (1, 3), (2, 2), (7, 1), (4, 3))))
    dilations = draw(st.sampled_from(([1, 1], [1, 1], [2, 1], [2, 3])))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = [draw(st.integers(0, r - 1)) for r in reach * 2]
    height, width = draw(planes())
    height, width = max(height, reach[0]), max(width, reach[1])
    group = draw(st.sampled_from((1, 1, 1, 2, 3)))
    return convolution(
        draw(extents(24)),
        draw(extents(40)),
        (height, width),
        kernel=kernel,
        group=group,
        strides=draw(st.sampled_from(([1, 1], [1, 1], [2, 2], [2, 1], [3, 3]))),
        dilations=dilations,
        pads=pads,
        **draw(_common()),
    )


@st.composite
def _depthwise(draw: st.DrawFn) -> Case:
    side = draw(st.sampled_from((3, 3, 5, 2)))
    pads = [draw(st.integers(0, side - 1)) for _ in range(4)]
    height, width = draw(planes())
    return convolution(
        1,
        draw(st.sampled_from((1, 1, 1, 2))),
        (height + side, width + side),
        kernel=(side, side),
        group=draw(extents(40)),
        strides=draw(st.sampled_from(([1, 1], [2, 2], [2, 1]))),
        dilations=draw(st.sampled_from(([1, 1], [1, 1], [2, 2]))),
        pads=pads if side == 2 else [side // 2] * 4,
        **draw(_common()),
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
        strides=[draw(st.integers(1, 3))],
        pads=[draw(st.integers(0, kernel - 1)), draw(st.integers(0, kernel - 1))],
        **draw(_common()),
    )


def cases() -> st.SearchStrategy[Case]:
    """Half of them with one kind of window, the rest of the others."""
    several = st.builds(
        pair, extents(24), extents(40), extents(24), planes(), st.sampled_from((1, 1, 2)), seeds
    )
    return st.one_of(_pointwise(), _windowed(), _depthwise(), _windowed(), _in_one_dimension(), several)


def edges() -> list[Case]:
    """Every type, kind of weights, zero point and epilogue; sides of a vector; windows, groups."""
    same: dict[str, Any] = {"kernel": (3, 3), "pads": [1, 1, 1, 1]}
    found = [
        convolution(1, 1, (1, 1)),
        convolution(33, 31, (1, 127), bias=""),
        convolution(7, 17, (9, 7), batch=2, bias="float"),
        convolution(3, 8, (17, 15), kernel=(3, 3), strides=[2, 2], pads=[0, 0, 1, 1]),
        convolution(3, 7, (20, 19), kernel=(7, 7), strides=[2, 2], pads=[3, 3, 3, 3], types=("int8", "int8")),
        convolution(4, 6, (9, 9), kernel=(3, 3), dilations=[2, 3], pads=[2, 3, 2, 3], per_channel=False),
        convolution(4, 6, (9, 9), kernel=(5, 5), auto_pad="SAME_LOWER", strides=[2, 2]),
        convolution(3, 5, (6, 7), group=3, **same),
        convolution(16, 16, (6, 7), group=2, **same),
        convolution(2, 4, (5, 5), group=4),
        convolution(5, 7, (17,), kernel=(4,), pads=[2, 1], strides=[3]),
        convolution(260, 20, (3, 3), seed=1, **same),
        convolution(1, 1, (9, 11), group=33, strides=[2, 2], **same),
        convolution(1, 1, (8, 8), group=16, kernel=(5, 5), pads=[2] * 4, types=("int8", "int8"), zeros="any"),
        convolution(1, 2, (7, 5), group=5, **same),
        pair(8, 40, 8, (9, 10)),
        pair(5, 17, 20, (8, 9), 2),
    ]
    for i, kind in enumerate(WEIGHTS):
        found.append(convolution(19, 18 + i, (6, 5), weights=kind, zeros=ZEROS[i % 4], seed=i))
        found.append(convolution(6, 9 + i, (5, 6), weights=kind, zeros=ZEROS[(i + 1) % 4], seed=i, **same))
        found.append(
            convolution(1, 1, (5, 6), group=11 + i, weights=kind, seed=i, zeros=ZEROS[(i + 2) % 4], **same)
        )
    for i, epilogue in enumerate(EPILOGUES):
        both = (ACTIVATIONS[i % 2], ACTIVATIONS[i // 2 % 2] if i % 3 else "")
        shape = (6 + 5 * i, 13 + 3 * i, (4, 3 + i))
        found.append(convolution(*shape, epilogue=epilogue, types=both, zeros=ZEROS[i % 4], seed=i))
        more: dict[str, Any] = {"epilogue": epilogue, "tight": 0.5, "seed": i, **same}
        found.append(convolution(1, 1, (5, 3 + i), group=9 + 3 * i, types=("int8", "int8"), **more))
    return found
