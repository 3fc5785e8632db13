"""Pooling and transposed convolution."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ..drawing import extents, planes, seeds
from ..graphs import Case, random_array

__all__ = ["cases", "edges"]


def pool(
    operator: str,
    channels: int,
    plane: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    *,
    ceil: bool = False,
    count_pads: bool = False,
    seed: int = 0,
) -> Case:
    """MaxPool or AveragePool."""
    case = Case(f"pool{tuple(locals().values())}")
    attributes: dict[str, Any] = {"kernel_shape": list(kernel), "strides": list(strides), "pads": list(pads)}
    attributes |= {"ceil_mode": int(ceil)} if ceil else {}
    attributes |= {"count_include_pad": 1} if count_pads else {}
    return case.give(case.add(operator, case.feed(random_array(seed, 1, channels, *plane)), **attributes))


def global_pool(channels: int, plane: tuple[int, int], seed: int = 0) -> Case:
    """The mean of every plane."""
    case = Case(f"global_pool{(channels, plane, seed)}")
    return case.give(case.add("GlobalAveragePool", case.feed(random_array(seed, 1, channels, *plane))))


def transposed(
    depth: int, rows: int, plane: tuple[int, int], kernel: int, stride: int, group: int = 1, seed: int = 0
) -> Case:
    """ConvTranspose with bias, pads of half a window where they fit."""
    case = Case(f"transposed{(depth, rows, plane, kernel, stride, group, seed)}")
    x = case.feed(random_array(seed, 1, depth * group, *plane))
    w = case.weight(random_array(seed, depth * group, rows, kernel, kernel))
    pads = [(kernel - 1) // 2] * 4
    b = case.weight(random_array(seed, rows * group))
    y = case.add("ConvTranspose", x, w, b, strides=[stride, stride], pads=pads, group=group)
    return case.give(y)


@st.composite
def _pool(draw: st.DrawFn) -> Case:
    operator = draw(st.sampled_from(("MaxPool", "AveragePool")))
    kernel = draw(st.sampled_from(((2, 2), (3, 3), (3, 2), (5, 5), (1, 3))))
    height, width = draw(planes(300))
    ceil = draw(st.booleans())
    pads = [draw(st.integers(0, (k - 1) // 2)) for k in (*kernel, *kernel)]
    strides = draw(st.sampled_from(((1, 1), (2, 2), (1, 2), (3, 3))))
    count_pads = operator == "AveragePool" and not ceil and draw(st.booleans())
    plane = (max(height, kernel[0]), max(width, kernel[1]))
    where = (pads[0], pads[1], pads[2], pads[3])
    return pool(
        operator,
        draw(extents(20)),
        plane,
        kernel,
        strides,
        where,
        ceil=ceil,
        count_pads=count_pads,
        seed=draw(seeds),
    )


@st.composite
def _transposed(draw: st.DrawFn) -> Case:
    return transposed(
        draw(extents(12)),
        draw(extents(12)),
        draw(planes(60)),
        draw(st.integers(2, 5)),
        draw(st.integers(1, 3)),
        draw(st.sampled_from((1, 1, 2))),
        draw(seeds),
    )


def cases() -> st.SearchStrategy[Case]:
    """Pooling mostly."""
    return st.one_of(_pool(), _pool(), st.builds(global_pool, extents(), planes(), seeds), _transposed())


def edges() -> list[Case]:
    """One pixel, one channel, sides of a vector."""
    return [
        pool("MaxPool", 1, (2, 2), (2, 2)),
        pool("MaxPool", 5, (13, 17), (3, 3), (2, 2), (1, 1, 1, 1)),
        pool("MaxPool", 3, (8, 33), (2, 2), (2, 2), ceil=True),
        pool("AveragePool", 7, (9, 16), (3, 3), (1, 1), (1, 1, 1, 1)),
        pool("AveragePool", 2, (15, 31), (5, 5), (2, 2), (2, 2, 2, 2), count_pads=True),
        global_pool(1, (1, 1)),
        global_pool(17, (7, 7)),
        global_pool(64, (1, 33)),
        transposed(3, 5, (4, 7), 3, 2),
        transposed(1, 1, (1, 1), 2, 1),
        transposed(4, 3, (5, 5), 4, 2, 2),
    ]
