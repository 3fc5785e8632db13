"""Weights of few bits with scales of groups: every width and kind, few rows in integers and many decoded."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from gossamer.kernels.code_groups import CodeForm
from gossamer.kernels.formats.group_float4 import GroupFloat4, pack_group_float4
from gossamer.kernels.formats.group_int import GroupInt, pack_group_int
from gossamer.kernels.quantization import integer_range
from gossamer.passes.storing import Stored

from ..bounded import Array, Bounded
from ..drawing import add_epilogue, epilogues, extents, seeds
from ..graphs import Case, random_array

__all__ = ["cases", "edges"]

KINDS = ("int4", "uint4", "int8", "uint8", "float8_e4m3fn", "float8_e5m2")
WIDTHS = tuple(f"group-int {bits}" for bits in range(1, 9))
GROUPS = (0, 16, 20, 32, 48, 64, 100, 128, 256)
_INTEGER_ROWS = 8  # whose activations may be rounded to 16 bits


def rounded_feed(case: Case, rows: Array, *, few: bool) -> str:
    """An input whose values a product may round: by 1 / 65278 of the largest of their row."""
    name = case.feed(rows)
    if few:
        step = np.abs(rows).max(axis=1, keepdims=True) / 65278
        # errors are added as if each were a standard deviation: three of those are all that there is
        case.values[name] = Bounded(rows.astype(np.float64), np.broadcast_to(3 * step, rows.shape))
    return name


def dequantized(case: Case, kind: str, outputs: int, inputs: int, group: int, last: bool, seed: int) -> str:
    """A matrix [K, N] (`last`) or [N, K] behind DequantizeLinear."""
    rng = np.random.default_rng((seed, outputs, inputs, group))
    dtype = np.dtype(getattr(ml_dtypes, kind, None) or kind)
    integers = "int" in kind
    low, high = integer_range(kind) if integers else (-6, 6)
    drawn = (
        rng.integers(low, high + 1, (outputs, inputs)) if integers else rng.normal(0, 2, (outputs, inputs))
    )
    groups = -(-inputs // group) if group else 1
    scale = rng.uniform(1e-3, 0.1, (outputs, groups)).astype(np.float16 if seed % 2 else np.float32)
    zero = rng.integers(low, high + 1, (outputs, groups)) if kind.startswith("uint") else None

    def turned(array: Array) -> Array:
        if group:
            return np.ascontiguousarray(array.T if last else array)
        return array[:, 0].copy()

    codes = case.weight(np.ascontiguousarray(drawn.T if last else drawn).astype(dtype))
    given = [codes, case.weight(turned(scale).astype(np.float32))]
    given += [case.weight(turned(zero).astype(dtype))] if zero is not None else []
    place = {"axis": 0 if last else 1, "block_size": group} if group else {"axis": 1 if last else 0}
    return case.add("DequantizeLinear", *given, **place)


def stored(kind: str, shape: tuple[int, ...], group: int, seed: int) -> Stored:
    """A weight in a format of groups, outputs first."""
    rng = np.random.default_rng((seed, *shape, group))
    bits = 4 if kind == "group-float4" else int(kind.split()[1])
    form = CodeForm(shape, bits, group or int(np.prod(shape[1:])))
    codes = rng.integers(0, 1 << bits, (form.outputs, form.inputs)).astype(np.uint8)
    size = (form.outputs, form.across)
    scale = rng.uniform(-0.1, 0.1, size).astype(np.float16 if seed % 2 else np.float32).astype(np.float32)
    if kind == "group-float4":
        shift = rng.integers(0, 8, size).astype(np.uint8)
        parts: dict[str, Any] = pack_group_float4(GroupFloat4(form, codes, scale, shift))
        return Stored("group-float4", parts)
    zero = rng.integers(0, 1 << bits, size) if seed % 3 else np.full(size, (1 << bits) // 2)
    return Stored("group-int", pack_group_int(GroupInt(form, codes, scale, zero.astype(np.uint8))))


def linear(
    rows: int,
    depth: int,
    columns: int,
    kind: str = "int4",
    group: int = 32,
    *,
    gemm: bool = False,
    bias: bool = True,
    epilogue: str = "",
    seed: int = 0,
) -> Case:
    """(rows, depth) times a weight of a kind."""
    case = Case(f"linear{tuple(locals().values())}")
    x = rounded_feed(case, random_array(seed, rows, depth), few=rows <= _INTEGER_ROWS)
    if kind.startswith("group"):
        w = case.stored(stored(kind, (columns, depth), group, seed))
        w = w if gemm else case.add("Transpose", w, perm=[1, 0])
    else:
        w = dequantized(case, kind, columns, depth, group, not gemm, seed)
    added = [case.weight(random_array(seed, columns))] if bias else []
    if gemm:
        y = case.add("Gemm", x, w, *added, transB=1)
    else:
        y = case.add("MatMul", x, w)
        y = case.add("Add", y, *added) if bias else y
    return case.give(add_epilogue(case, y, epilogue, (columns,), seed))


def convolution(
    channels: int,
    outputs: int,
    size: int,
    kernel: int = 1,
    kind: str = "int8",
    group: int = 0,
    *,
    epilogue: str = "",
    seed: int = 0,
) -> Case:
    """Images of `size` x `size`, padded to as many pixels."""
    case = Case(f"convolution{tuple(locals().values())}")
    x = case.feed(random_array(seed, 1, channels, size, size))
    if size == 1:  # as a product of one row
        rows = random_array(seed, 1, channels)
        step = np.broadcast_to(3 * np.abs(rows).max() / 65278, (1, channels, 1, 1))
        case.values[x] = Bounded(case.values[x].value, step)
    shape = (outputs, channels, kernel, kernel)
    if kind.startswith("group"):
        w = case.stored(stored(kind, shape, group, seed))
    else:
        w = dequantized(case, kind, outputs, channels * kernel * kernel, group, False, seed)
        w = case.add("Reshape", w, case.weight(np.array(shape, np.int64)))
    y = case.add("Conv", x, w, case.weight(random_array(seed, outputs)), pads=[kernel // 2] * 4)
    return case.give(add_epilogue(case, y, epilogue, (1, outputs, 1, 1), seed))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Few rows mostly."""
    return linear(
        draw(st.one_of(st.integers(1, 9), st.just(1), extents(40))),
        draw(extents(300)),
        draw(extents(100)),
        draw(st.sampled_from((*KINDS, *WIDTHS, "group-float4"))),
        draw(st.sampled_from(GROUPS)),
        gemm=draw(st.booleans()),
        bias=draw(st.booleans()),
        epilogue=draw(epilogues),
        seed=draw(seeds),
    )


def edges() -> list[Case]:
    """Every kind with groups that end within vectors; one output, one input; convolutions."""
    kinds = (*KINDS, *WIDTHS, "group-float4")
    found = [
        linear(1 + i % 9, 259 + i, 19 + 9 * i, kind, GROUPS[i % len(GROUPS)], gemm=bool(i % 2), seed=i)
        for i, kind in enumerate(kinds)
    ]
    found += [linear(1, 200, 70, f"group-int {bits}", 16, seed=bits) for bits in (2, 3, 5, 7)]
    return [
        *found,
        linear(1, 256, 64, epilogue="relu"),
        linear(1, 256, 130, "uint4", 128, epilogue="gelu", seed=1),
        linear(8, 128, 33, "int8", 0, bias=False),
        linear(5, 300, 80, "uint8", 256, epilogue="residual"),
        linear(1, 1, 1, "int4", 0),
        linear(2, 17, 1, "int8", 16),
        linear(40, 70, 33, "uint4", 20, seed=2),
        linear(33, 256, 40, "float8_e4m3fn", 64, epilogue="silu"),
        convolution(64, 40, 1, kind="int4", group=32, epilogue="relu"),
        convolution(32, 24, 9, kind="int8", epilogue="relu"),
        convolution(40, 9, 7, 1, "uint4", 20),
        convolution(12, 17, 8, 3, "group-int 3", 16, epilogue="residual", seed=1),
        convolution(20, 6, 12, 3, "group-float4", 36),
        convolution(5, 8, 5, 5, "float8_e5m2"),
    ]
