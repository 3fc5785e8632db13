"""Every operator family against onnxruntime: small odd sizes, so that vectors have tails."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from . import conformance
from .conformance import Case

Family = Callable[[], list[Any]]
FAMILIES: dict[str, Family] = {}


def family(function: Family) -> Family:
    FAMILIES[function.__name__] = function
    return function


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


def ints(*values: Any) -> Any:
    return np.array(values, np.int64)


def wide(low: float, high: float, *special: float) -> Any:
    return np.concatenate([np.linspace(low, high, 997), special]).astype(np.float32)


INF, NAN = float("inf"), float("nan")


@family
def functions() -> list[Any]:
    any_value = (0.0, INF, -INF, NAN)
    one = [
        Case("Exp", [wide(-110, 88, *any_value)]),
        Case("Log", [np.concatenate([np.geomspace(1e-40, 1e38, 997), any_value]).astype(np.float32)]),
        Case("Tanh", [wide(-12, 12, *any_value)]),
        Case("Sigmoid", [wide(-100, 100, *any_value)]),
        Case("Erf", [wide(-5, 5, *any_value)]),
        Case("Sin", [wide(-300, 300, 0.0, NAN)]),
        Case("Cos", [wide(-300, 300, 0.0, NAN)]),
        Case("Tan", [wide(-1.4, 1.4)]),
        Case("Gelu", [wide(-9, 9)]),
        Case("Gelu", [wide(-9, 9)], {"approximate": "tanh"}),
        Case("Pow", [wide(0.1, 9), wide(-3, 3)]),
        Case("Pow", [wide(-9, 9), np.array([3.0], np.float32)], fixed=[1]),
        Case("Pow", [wide(-9, 9), np.array([2.5], np.float32)], fixed=[1]),
    ]
    names = "Abs Ceil Floor Neg Relu Round Sign Softplus Softsign Elu Selu Celu Mish HardSwish HardSigmoid"
    names += " LeakyRelu ThresholdedRelu Shrink Identity"
    one += [Case(n, [wide(-20, 20, 0.5, 1.5, 2.5, -0.5)]) for n in names.split()]
    one += [Case("Sqrt", [wide(0, 50)]), Case("Reciprocal", [wide(0.5, 50)])]
    one += [Case(n, [wide(-3, 3, *any_value)]) for n in ("Relu", "Abs", "Neg", "LeakyRelu")]
    one += [Case("IsNaN", [wide(-1, 1, *any_value)], outputs=["bool"])]
    one += [
        Case(
            "IsInf", [wide(-1, 1, *any_value)], {"detect_negative": n, "detect_positive": p}, outputs=["bool"]
        )
        for n, p in itertools.product((0, 1), (0, 1))
    ]
    bounds = [np.array(0.0, np.float32), np.array(6.0, np.float32)]
    one += [Case("Clip", [wide(-9, 9, *any_value), *bounds], fixed=[1, 2])]
    one += [Case("Clip", [wide(-9, 9), None, bounds[1]], fixed=[2])]
    return one


@family
def broadcasting() -> list[Any]:
    a, b, c = normal(2, 3, 5, 7), normal(3, 1, 7, seed=1), normal(7, seed=2)
    n = np.random.default_rng(3).integers(-9, 9, (3, 11))
    m = np.where(n == 0, 3, n)[::-1].copy()
    cases = [Case(o, [a, b]) for o in ("Add", "Sub", "Mul", "Div", "PRelu")]
    cases += [Case(o, [a, c]) for o in ("Add", "Max", "Min")]
    cases += [Case(o, [b, a]) for o in ("Sub", "Div")]
    cases += [Case(o, [b, a], outputs=["bool"]) for o in ("Greater", "Less", "GreaterOrEqual", "LessOrEqual")]
    cases += [Case(o, [a, b, c]) for o in ("Max", "Min", "Sum", "Mean")]
    cases += [Case("Where", [a > 0, b, c])]
    cases += [Case(o, [n, m], outputs=["int64"]) for o in ("Add", "Mul", "Div", "Mod", "Max")]
    cases += [Case("Equal", [n, m], outputs=["bool"])]
    cases += [Case("Mod", [a, c], {"fmod": 1})]
    cases += [Case(o, [a > 0, b > 0], outputs=["bool"]) for o in ("And", "Or", "Xor")]
    cases += [Case("Not", [a > 0], outputs=["bool"])]
    kinds = (("INT64", 7), ("INT32", 6), ("UINT8", 2), ("BOOL", 9))
    cases += [Case("Cast", [np.abs(a) * 9], {"to": k}, outputs=[name]) for name, k in kinds]
    cases += [Case("Cast", [n], {"to": 1})]
    return cases


@family
def movement() -> list[Any]:
    a = normal(2, 3, 5, 9)
    cases = [
        Case("Transpose", [a], {"perm": p}) for p in ([0, 2, 3, 1], [3, 2, 1, 0], [1, 0, 2, 3], [0, 1, 3, 2])
    ]
    slices = [
        (ints(1), ints(4), ints(2), ints(1)),
        (ints(-1), ints(-1000), ints(3), ints(-1)),
        (ints(7, 4), ints(0, -100), ints(3, 2), ints(-3, -2)),
        (ints(0, 1), ints(9, 5), ints(-1, -2), ints(2, 2)),
    ]
    cases += [Case("Slice", [a, *s], fixed=[1, 2, 3, 4]) for s in slices]
    pads = ints(0, 0, 1, 2, 0, 0, 3, 4)
    cases += [Case("Pad", [a, pads], {"mode": m}, fixed=[1]) for m in ("constant", "edge", "reflect", "wrap")]
    cases += [Case("Pad", [a, ints(0, 0, -1, 2, 1, 0, 0, -3), np.array(2.5, np.float32)], fixed=[1, 2])]
    cases += [Case("Concat", [a, a[:, :1], a[:, :2]], {"axis": 1}), Case("Concat", [a, a], {"axis": -1})]
    cases += [Case("Split", [a, ints(2, 3, 4)], {"axis": 3}, fixed=[1], outputs=["float32"] * 3)]
    cases += [Case("Reshape", [a, ints(6, -1)], fixed=[1]), Case("Flatten", [a], {"axis": 2})]
    cases += [
        Case("Tile", [a, ints(1, 2, 1, 3)], fixed=[1]),
        Case("Expand", [a[:, :1], ints(2, 4, 5, 9)], fixed=[1]),
    ]
    cases += [
        Case("DepthToSpace", [normal(1, 12, 3, 5)], {"blocksize": 2, "mode": m}) for m in ("DCR", "CRD")
    ]
    cases += [Case("SpaceToDepth", [normal(1, 3, 4, 6)], {"blocksize": 2})]
    index = ints([0, -1], [2, 1])
    cases += [Case("Gather", [a, index], {"axis": x}) for x in (1, -1)]
    cases += [Case("GatherElements", [normal(3, 4), ints([0, 1, -1, 2], [1, 1, 0, 0])], {"axis": 0})]
    return cases


@family
def indexing() -> list[Any]:
    a = normal(4, 5, 11)
    nd = [Case("GatherND", [a, i]) for i in (ints([0, 1], [-1, 2]), ints([[3]], [[-4]]), ints([1, 2, 3]))]
    nd += [Case("GatherND", [a, ints([1], [0], [4], [-1])], {"batch_dims": 1})]
    cases = list(nd)
    for reduction in ("none", "add", "mul", "max", "min"):
        how = {"reduction": reduction}
        cases += [Case("ScatterND", [a, ints([0, 1], [-1, 2]), normal(2, 11)], how)]
        cases += [Case("ScatterElements", [a, ints([[0, 4, -2]]), normal(1, 1, 3)], {"axis": 2, **how})]
    cases += [Case("ScatterND", [a, ints([1, 2, 3], [0, 0, 0]), normal(2)])]
    cases += [Case("ScatterND", [a, ints([2]), normal(1, 5, 11)])]
    hot = np.array([0.5, 3.0], np.float32)
    for axis in (-1, 0, 1):
        cases += [Case("OneHot", [ints([0, 2], [-1, 9]), ints(5), hot], {"axis": axis}, fixed=[1])]
    for exclusive, reverse, axis in itertools.product((0, 1), (0, 1), (0, 2)):
        cases += [
            Case(
                "CumSum", [a, ints(axis).reshape(())], {"exclusive": exclusive, "reverse": reverse}, fixed=[1]
            )
        ]
    cases += [
        Case("Trilu", [a, ints(k).reshape(())], {"upper": u}, fixed=[1]) for u in (0, 1) for k in (-1, 0, 2)
    ]
    for axis, k, largest in ((-1, 3, 1), (0, 4, 0), (1, 5, 1)):
        cases += [
            Case(
                "TopK",
                [a, ints(k)],
                {"axis": axis, "largest": largest},
                fixed=[1],
                outputs=["float32", "int64"],
            )
        ]
    equal = np.array([[2, 1, 2, 1, 2, 0]], np.float32)
    cases += [Case("TopK", [equal, ints(5)], fixed=[1], outputs=["float32", "int64"])]
    cases += [
        Case(o, [equal], {"axis": 1, "select_last_index": s}, outputs=["int64"])
        for o in ("ArgMax", "ArgMin")
        for s in (0, 1)
    ]
    cases += [Case("EyeLike", [normal(3, 5)], {"k": 1}), Case("Shape", [a], outputs=["int64"])]
    return cases


@family
def resizing() -> list[Any]:
    a = normal(1, 3, 7, 10)
    cases = []
    modes = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"]
    for how, mode in itertools.product(("nearest", "linear", "cubic"), modes):
        for scales in ((2.0, 3.0), (0.65, 1.7)):
            s = np.array([1, 1, *scales], np.float32)
            attributes = {"mode": how, "coordinate_transformation_mode": mode}
            cases += [Case("Resize", [a, None, s], attributes, fixed=[2])]
    for rounding in ("round_prefer_ceil", "floor", "ceil"):
        cases += [Case("Resize", [a, None, None, ints(1, 3, 13, 4)], {"nearest_mode": rounding}, fixed=[3])]
    for more in ({"exclude_outside": 1}, {"antialias": 1}, {"cubic_coeff_a": -0.5}):
        cases += [
            Case(
                "Resize",
                [a, None, None, ints(1, 3, 3, 4)],
                {"mode": "cubic", **more},
                fixed=[3],
            )
        ]
    cases += [
        Case("Resize", [a, None, None, ints(1, 3, 3, 4)], {"mode": "linear", "antialias": 1}, fixed=[3])
    ]
    roi = np.array([0, 0, 0.2, -0.3, 1, 1, 0.8, 1.2], np.float32)
    crop = {
        "mode": "linear",
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 7.0,
    }
    cases += [Case("Resize", [a, roi, None, ints(1, 3, 5, 6)], crop, fixed=[1, 3])]
    cases += [Case("Resize", [a, None, None, ints(14, 20)], {"axes": [2, 3]}, fixed=[3])]
    return cases


@family
def reductions() -> list[Any]:
    a, p = normal(2, 3, 5, 17), np.abs(normal(2, 3, 5, 17)) + 0.1
    names = ["Sum", "Mean", "Max", "Min", "L1", "L2", "SumSquare", "LogSumExp"]
    cases = [
        Case(f"Reduce{n}", [a, ints(*x)], {"keepdims": k}, fixed=[1])
        for n, (x, k) in itertools.product(names, (((3,), 1), ((1,), 0), ((0, 2), 1)))
    ]
    cases += [Case("ReduceSum", [a], {"keepdims": 0}), Case("ReduceLogSum", [p, ints(-1)], fixed=[1])]
    cases += [Case("ReduceProd", [p, ints(2, 3)], fixed=[1]), Case("ReduceMean", [a, ints(1, 3)], fixed=[1])]
    cases += [Case("ReduceLogSumExp", [a * 60, ints(3)], fixed=[1])]
    cases += [Case("ReduceMax", [np.arange(24).reshape(2, 3, 4), ints(1)], fixed=[1], outputs=["int64"])]
    cases += [Case(o, [a * 5], {"axis": x}) for o in ("Softmax", "LogSoftmax") for x in range(4)]
    cases += [Case("Hardmax", [np.round(a)], {"axis": x}) for x in (1, -1)]
    cases += [Case("GlobalAveragePool", [a]), Case("GlobalMaxPool", [a])]
    return cases


@family
def normalizations() -> list[Any]:
    a = normal(2, 6, 5, 7)
    cases = [Case("LayerNormalization", [a, normal(7), normal(7, seed=1)], {"axis": -1})]
    cases += [Case("LayerNormalization", [a, normal(5, 7), normal(5, 7, seed=1)], {"axis": 2})]
    cases += [Case("InstanceNormalization", [a, normal(6), normal(6, seed=1)])]
    cases += [
        Case("GroupNormalization", [a, normal(6), normal(6, seed=1)], {"num_groups": g}) for g in (2, 3)
    ]
    cases += [Case("LRN", [np.abs(a)], {"size": s, "alpha": 0.3, "beta": 0.6, "bias": 1.5}) for s in (3, 5)]
    cases += [Case("LpNormalization", [a], {"p": p, "axis": x}) for p in (1, 2) for x in (1, -1)]
    bn = [np.abs(normal(6, seed=s)) + 0.5 for s in range(4)]
    cases += [Case("BatchNormalization", [a, *bn], fixed=[1, 2, 3, 4])]
    return cases


@family
def pooling() -> list[Any]:
    a, w = normal(1, 3, 9, 13), normal(2, 3, 21)
    cases = []
    for extra in (
        {},
        {"strides": [2, 2]},
        {"strides": [2, 1], "pads": [1, 1, 1, 1]},
        {"ceil_mode": 1, "strides": [2, 2]},
    ):
        cases += [Case("MaxPool", [a], {"kernel_shape": [3, 3], **extra})]
        cases += [Case("AveragePool", [a], {"kernel_shape": [3, 3], **extra})]
    cases += [
        Case("AveragePool", [a], {"kernel_shape": [3, 3], "pads": [1, 0, 1, 2], "count_include_pad": 1})
    ]
    cases += [Case("MaxPool", [a], {"kernel_shape": [3, 2], "dilations": [2, 1], "auto_pad": "VALID"})]
    cases += [Case("MaxPool", [a], {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"})]
    cases += [
        Case(o, [w], {"kernel_shape": [3], "strides": [2], "pads": [1, 1]})
        for o in ("MaxPool", "AveragePool")
    ]
    cases += [Case("MaxPool", [-np.abs(a)], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})]
    return cases


def conv(x: Any, w: tuple[int, ...], bias: bool = True, **attributes: Any) -> Any:
    outputs = w[0]
    feeds = [x, normal(*w, seed=5)] + ([normal(outputs, seed=6)] if bias else [])
    return Case("Conv", feeds, attributes, fixed=[1, 2])


@family
def convolutions() -> list[Any]:
    a, b = normal(1, 8, 7, 7), normal(2, 6, 14, 11)
    return [
        conv(a, (12, 8, 1, 1)),
        conv(b, (5, 6, 1, 1), bias=False),
        conv(b, (5, 6, 1, 1), strides=[2, 2]),
        conv(a, (16, 8, 3, 3), pads=[1, 1, 1, 1]),
        conv(b, (9, 6, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1]),
        conv(b, (4, 6, 3, 3), dilations=[2, 2]),
        conv(b, (4, 6, 3, 3), dilations=[2, 1], pads=[2, 0, 2, 1], strides=[1, 2]),
        conv(b, (8, 3, 3, 3), group=2, pads=[1, 1, 1, 1]),
        conv(b, (9, 2, 1, 1), group=3),
        conv(a, (8, 1, 3, 3), group=8, pads=[1, 1, 1, 1]),
        conv(b, (12, 1, 3, 3), group=6, strides=[2, 2], pads=[0, 1, 1, 0]),
        conv(b, (6, 1, 5, 5), group=6, pads=[2, 2, 2, 2]),
        conv(b, (6, 1, 3, 3), group=6, dilations=[2, 2]),
        conv(b, (7, 6, 5, 5), pads=[2, 2, 2, 2]),
        conv(a, (3, 8, 7, 7)),
        conv(a, (5, 8, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
        conv(b, (4, 6, 3, 3), auto_pad="SAME_LOWER", strides=[2, 2]),
        conv(b, (4, 6, 1, 5), pads=[0, 2, 0, 2]),
        conv(normal(2, 4, 19), (6, 4, 3), pads=[1, 1]),
        conv(normal(1, 4, 19), (4, 1, 5), group=4, strides=[2]),
        conv(normal(1, 4, 19), (5, 4, 1)),
        conv(normal(1, 4, 19), (8, 2, 4), group=2, dilations=[2]),
        conv(normal(1, 3, 1, 1), (7, 3, 1, 1)),
    ]


def transposed(x: Any, w: tuple[int, ...], **attributes: Any) -> Any:
    outputs = w[1] * attributes.get("group", 1)
    return Case("ConvTranspose", [x, normal(*w, seed=5), normal(outputs, seed=6)], attributes, fixed=[1, 2])


@family
def transposed_convolutions() -> list[Any]:
    a = normal(2, 6, 5, 7)
    return [
        transposed(a, (6, 4, 3, 3)),
        transposed(a, (6, 4, 2, 2), strides=[2, 2]),
        transposed(a, (6, 4, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
        transposed(a, (6, 4, 3, 3), strides=[2, 3], dilations=[2, 1]),
        transposed(a, (6, 2, 3, 3), group=3, strides=[2, 2]),
        transposed(a, (6, 1, 4, 4), group=6, strides=[2, 2], pads=[1, 1, 1, 1]),
        transposed(a, (6, 4, 1, 1), strides=[2, 2]),
        transposed(a, (6, 4, 2, 2), pads=[2, 2, 2, 2]),
        transposed(a, (6, 4, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
        transposed(a, (6, 4, 3, 3), strides=[2, 2], output_shape=[10, 14]),
        transposed(normal(1, 4, 9), (4, 3, 4), strides=[2], pads=[1, 1]),
    ]


@family
def products() -> list[Any]:
    pairs = [
        ((4, 7), (7, 5)),
        ((3, 17, 8), (8, 33)),
        ((2, 3, 5, 7), (2, 3, 7, 6)),
        ((2, 1, 5, 7), (3, 7, 6)),
        ((7,), (7, 5)),
        ((4, 7), (7,)),
        ((7,), (7,)),
        ((2, 4, 7), (7,)),
        ((1, 64), (64, 100)),
        ((7,), (3, 7, 5)),
    ]
    cases = [Case("MatMul", [normal(*x), normal(*y, seed=1)], fixed=f) for x, y in pairs for f in ((), (1,))]
    cases += [Case("MatMul", [normal(5, 7), normal(3, 7, 4)], fixed=[0])]
    for ta, tb, fixed in itertools.product((0, 1), (0, 1), ((), (1,), (1, 2))):
        x, y = normal(*((9, 4) if ta else (4, 9))), normal(*((11, 9) if tb else (9, 11)), seed=1)
        how = {"transA": ta, "transB": tb, "alpha": 0.5, "beta": 2.0}
        cases += [Case("Gemm", [x, y, normal(11)], how, fixed=fixed)]
    for shape in ((4, 11), (4, 1), (1,), (1, 11), ()):
        cases += [Case("Gemm", [normal(4, 9), normal(9, 11), normal(*shape)], {"beta": 0.5}, fixed=[1, 2])]
    return cases


@pytest.mark.parametrize("name", FAMILIES)
def test_family_agrees_with_onnxruntime(name: str, tmp_path: Path) -> None:
    conformance.check(FAMILIES[name](), tmp_path)
