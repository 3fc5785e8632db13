"""N:M weights are read as they are stored where that is estimated to be faster, else dense, and told why."""

from __future__ import annotations

import pytest
from onnx import helper

from gossamer.kernels.lowering import lower
from gossamer.kernels.program import LayerInfo
from gossamer.kernels.targets import find_target
from gossamer.passes.compress.encode_n_m import EncodeNM
from gossamer.passes.loading import load_model
from gossamer.passes.preparing import prepare

from ..formats.test_n_m import n_m_weight
from .test_sparse_kernels import model_of


def layer(pattern: str, target: str, rows: int = 1, size: int = 64) -> tuple[LayerInfo, int]:
    """The report of a product and the bytes of its weights."""
    kept, of = map(int, pattern.split(":"))
    weight = n_m_weight(0, (size, size), kept, of)
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1, name="layer")
    model = load_model(model_of([node], {"x": (rows, size)}, ["y"], {"w": weight}))
    EncodeNM(pattern=pattern, min_saving=0)(model)
    program = lower(prepare(model), find_target(target))
    return program.layers[0], len(program.weights)


@pytest.mark.parametrize(
    ("pattern", "target", "rows", "size"),
    [
        ("2:4", "x86-64-v4", 1, 64),
        ("2:4", "x86-64-v4", 100, 64),
        ("1:4", "wasm", 1, 64),
        ("1:4", "arm64-linux", 8, 64),
        ("2:4", "wasm", 1, 1024),
    ],
)
def test_stored_weights_are_read_where_that_is_faster(
    pattern: str, target: str, rows: int, size: int
) -> None:
    found, stored = layer(pattern, target, rows, size)
    assert (found.kernel, found.format) == ("n-m", f"n-m {pattern}")
    assert "of dense time" in found.reason
    share = int(pattern[0]) / int(pattern[2])
    assert stored < 4 * size * size * (share + 1 / 16) + 6000
    assert found.weight_bytes < stored


@pytest.mark.parametrize(
    ("pattern", "target"), [("2:4", "wasm"), ("3:4", "x86-64-v4"), ("2:8", "armv7-linux"), ("2:5", "host")]
)
def test_few_rows_are_multiplied_densely_where_that_is_faster(pattern: str, target: str) -> None:
    found, _ = layer(pattern, target)
    assert (found.kernel, found.format) == ("gemm", "dense")
    assert found.reason in (
        f"{pattern} has no kernel here; decoded when compiled",
        f"{pattern} would take 1.40 of the dense time; decoded when compiled",
        f"{pattern} would take 1.35 of the dense time; decoded when compiled",
    )


def test_a_position_costs_its_bits() -> None:
    """The activations of 16 steps of 2:4 are found by one word of each output."""
    assert layer("2:4", "x86-64-v4", size=64)[0].weight_bytes == 64 * 64 * (2 + 0.125)
