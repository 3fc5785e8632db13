"""Weights of few bits: what they take in the artifact, which kernels read them, and how exact those are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from gossamer.kernels.building import build_artifact
from gossamer.kernels.grouped_weight import element_values
from gossamer.kernels.lowering import emit_objects, lower
from gossamer.kernels.program import LayerInfo, Program
from gossamer.kernels.targets import find_target
from gossamer.passes.loading import load_model
from gossamer.passes.preparing import prepare
from gossamer.passes.rounding import TOLERANCE
from gossamer.runtime.comparing import tensor_error
from gossamer.runtime.session import InferenceSession

Compared = tuple[np.ndarray, np.ndarray]  # what was computed, and what is right
TARGETS = ["x86-64-v2", "x86-64-v3", "x86-64-v4", "x86-64-v4-vnni", "arm64-linux-dotprod", "wasm"]


def grouped_product(
    rows: int, inputs: int, outputs: int, dtype: Any, group: int, scale_type: Any = np.float16
) -> onnx.ModelProto:
    """x times a matrix [K, N] of `dtype` with a scale for `group` inputs."""
    rng = np.random.default_rng(0)
    codes = rng.integers(-8, 8, (inputs, outputs)).astype(dtype)
    scale = rng.uniform(0.01, 0.1, (inputs // group, outputs)).astype(scale_type).astype(np.float32)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=0, block_size=group),
        helper.make_node("MatMul", ["x", "w"], ["y"], name="layer"),
    ]
    graph = helper.make_graph(
        nodes,
        "grouped",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [rows, inputs])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [rows, outputs])],
        [numpy_helper.from_array(codes, "q"), numpy_helper.from_array(scale, "s")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def lowered(model: onnx.ModelProto, target: str) -> tuple[Program, LayerInfo]:
    program = lower(prepare(load_model(model)), find_target(target))
    return program, program.layers[0]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("rows", [1, 40])
def test_four_bits_in_groups_take_four_bits_and_half_a_bit_of_scales(target: str, rows: int) -> None:
    program, layer = lowered(grouped_product(rows, 512, 256, ml_dtypes.int4, 32), target)
    assert layer.format == "int4 groups of 32"
    assert layer.bits_per_weight == pytest.approx(4.5)
    assert len(program.weights) <= 512 * 256 * 4.5 / 8 + 2048
    assert layer.kernel == ("grouped" if rows == 1 else "gemm")


def test_scales_that_float16_rounds_stay_float32() -> None:
    _, layer = lowered(grouped_product(1, 512, 256, ml_dtypes.int4, 32, np.float32), "x86-64-v3")
    assert layer.bits_per_weight == pytest.approx(5.0)


def test_small_floats_stay_small_floats() -> None:
    _, layer = lowered(grouped_product(4, 256, 128, ml_dtypes.float8_e4m3fn, 64), "x86-64-v3")
    assert layer.format == "float8 e4m3fn groups of 64"
    assert layer.bits_per_weight == pytest.approx(8.25)


def test_values_of_small_floats_are_those_of_their_types() -> None:
    for name, dtype in (("float8e4m3fn", ml_dtypes.float8_e4m3fn), ("float8e5m2", ml_dtypes.float8_e5m2)):
        with np.errstate(invalid="ignore"):
            given = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float32)
        values = element_values(name, 8)
        finite = np.isfinite(given)
        np.testing.assert_array_equal(values[finite], given[finite])
        assert np.isnan(values[~finite]).all()


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> Callable[[np.ndarray], Compared]:
    """How one row times int4 in groups of 32 compares with float64."""
    model, target = grouped_product(1, 512, 256, ml_dtypes.int4, 32), find_target("host")
    program, _ = lowered(model, "host")
    folder = tmp_path_factory.mktemp("grouped") / "artifact"
    session = InferenceSession(build_artifact(program, emit_objects(program, target), target, folder))
    codes, scale = (numpy_helper.to_array(t) for t in model.graph.initializer)
    matrix = codes.astype(np.float64) * np.repeat(scale.astype(np.float64), 32, 0)

    def of(x: np.ndarray) -> Compared:
        (got,) = session.run(None, {"x": x})
        return got, x.astype(np.float64) @ matrix

    return of


def test_rounding_activations_to_16_bits_stays_within_the_tolerance_of_verification(
    errors: Callable[[np.ndarray], Compared],
) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1, 512)).astype(np.float32)
    dwarfing = x.copy()
    dwarfing[0, 7] = 1e4  # takes all bits of its group
    for row in (x, rng.standard_t(3, (1, 512)).astype(np.float32), dwarfing):
        got, expected = errors(row)
        assert 0 < tensor_error(expected.astype(np.float32), got).relative <= TOLERANCE


def test_an_input_that_dwarfs_its_group_costs_no_more_than_its_last_bits(
    errors: Callable[[np.ndarray], Compared],
) -> None:
    x = np.random.default_rng(1).standard_normal((1, 512)).astype(np.float32)
    x[0, 7] = 1e4
    got, expected = errors(x)
    off = np.sqrt(((got - expected) ** 2).mean()) / expected.std()
    assert off <= 6e-5  # sqrt(31 / 12) / 32639, where one input is all there is


def test_what_is_not_finite_is_not_finite_in_the_results(
    errors: Callable[[np.ndarray], Compared],
) -> None:
    with np.errstate(invalid="ignore"):
        assert np.isnan(errors(np.full((1, 512), np.nan, np.float32))[0]).all()
        x = np.ones((1, 512), np.float32)
        x[0, 100] = np.inf
        assert not np.isfinite(errors(x)[0]).any()
