"""Q and DQ stand where values are stored, and nowhere between a layer and what is computed with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from gossamer.passes.layers import weighted_layers
from gossamer.passes.quantizing.placement import Coverage, Placement, place
from gossamer.passes.shapes import infer_shapes

HEAD = '<ir_version: 10, opset_import: ["": 21]> g'


def placed(build: Any, body: str, coverage: Coverage = "stored", result: str = "n, 8, h, w") -> Placement:
    """`w` and `v`: pointwise weights 8 x 8, `u`: 8 x 16, `m`: a matrix 8 x 8."""
    rng = np.random.default_rng(0)
    weights = {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in {
            "w": (8, 8, 1, 1),
            "v": (8, 8, 1, 1),
            "u": (8, 16, 1, 1),
            "m": (8, 8),
            "bias": (8,),
        }.items()
        if f" {name})" in body
    }
    model = build(f"{HEAD} (float[n, 8, 6, 6] x) => (float[{result}] y) {{ {body} }}", weights)
    infer_shapes(model)
    return place(model, [layer.node for layer in weighted_layers(model)], coverage)


def names(placement: Placement) -> dict[str, list[str]]:
    return {
        str(value.name): sorted(f"{node.op_type} {index}" for node, index in uses)
        for value, uses in placement.readers.items()
    }


def test_bias_and_activation_stay_with_their_layer(build: Any) -> None:
    found = placed(build, "a = Conv (x, w) b = Sigmoid (a) c = Mul (a, b) y = Conv (c, v)")
    assert names(found) == {"x": ["Conv 0"], "c": ["Conv 0"]}


def test_a_costly_function_of_one_value_reads_integers_too(build: Any) -> None:
    body = "a = Conv (x, w) b = Sigmoid (a) c = Mul (a, b) y = Conv (c, v)"
    found = placed(build, body, "tables")
    assert names(found) == {"x": ["Conv 0"], "a": ["Mul 0", "Sigmoid 0"], "c": ["Conv 0"]}


def test_a_bias_of_many_values_is_added_before_the_table(build: Any) -> None:
    body = "p = GlobalAveragePool (x) f = Flatten (p) a = MatMul (f, m) b = Add (a, bias) c = Gelu (b) "
    body += "y = MatMul (c, m)"
    found = names(placed(build, body, "tables", result="n, 8"))
    assert found["b"] == ["Gelu 0"]
    assert "a" not in found


def test_a_residual_sum_reads_the_integers_that_the_layers_read(build: Any) -> None:
    body = (
        "a = Conv (x, w) b = Relu (a) c = Conv (b, v) d = Add (b, c) e = Relu (d) y = GlobalAveragePool (e)"
    )
    found = placed(build, body, result="n, 8, 1, 1")
    assert names(found) == {
        "x": ["Conv 0"],
        "b": ["Add 0", "Conv 0"],
        "e": ["GlobalAveragePool 0"],
    }


def test_coverage_layers_leaves_other_readers_alone(build: Any) -> None:
    body = "a = Conv (x, w) b = Relu (a) c = Conv (b, v) d = Add (b, c) y = Relu (d)"
    assert names(placed(build, body, "layers")) == {"x": ["Conv 0"], "b": ["Conv 0"]}


def test_of_two_branches_the_first_waits_as_integers(build: Any) -> None:
    body = "a = Conv (x, w) b = Conv (x, v) c = Add (b, a) y = Relu (c)"
    assert names(placed(build, body)) == {"x": ["Conv 0", "Conv 0"], "a": ["Add 1"]}


def test_operands_and_result_of_a_concat_share_a_grid(build: Any) -> None:
    body = "a = Conv (x, w) b = Relu (a) c = Conv (x, v) d = Concat <axis = 1> (b, c) y = Conv (d, u)"
    found = placed(build, body)
    assert names(found) == {
        "x": ["Conv 0", "Conv 0"],
        "b": ["Concat 0"],
        "c": ["Concat 1"],
        "d": ["Conv 0"],
    }
    groups = [{str(value.name) for value in group} for group in found.groups()]
    assert {"b", "c", "d"} in groups
    assert len(groups) == 2


def test_values_that_move_keep_their_grid(build: Any) -> None:
    body = "a = Conv (x, w) b = Relu (a) c = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (b) "
    body += "d = GlobalAveragePool (c) e = Flatten (d) y = MatMul (e, m)"
    found = placed(build, body, result="n, 8")
    assert names(found) == {
        "x": ["Conv 0"],
        "b": ["MaxPool 0"],
        "c": ["GlobalAveragePool 0"],
        "d": ["Flatten 0"],
        "e": ["MatMul 0"],
    }
    groups = sorted(sorted(str(value.name) for value in group) for group in found.groups())
    assert groups == [["b", "c"], ["d", "e"], ["x"]]


def test_a_small_gate_stays_float_and_scales_integers(build: Any) -> None:
    body = "a = Conv (x, w) b = Relu (a) p = GlobalAveragePool (b) q = Conv (p, v) g = Sigmoid (q) "
    body += "z = Mul (b, g) y = Conv (z, w)"
    found = names(placed(build, body))
    assert found == {
        "x": ["Conv 0"],
        "b": ["GlobalAveragePool 0", "Mul 0"],
        "p": ["Conv 0"],
        "z": ["Conv 0"],
    }


def test_rows_that_are_added_stay_float(build: Any) -> None:
    model = build(
        f"{HEAD} (float[n, 8] x) => (float[n, 8] y) {{ a = Tanh (x) b = MatMul (a, m) y = Add (a, b) }}",
        {"m": np.ones((8, 8), np.float32)},
    )
    infer_shapes(model)
    found = place(model, [layer.node for layer in weighted_layers(model)])
    assert names(found) == {"a": ["MatMul 0"]}


def test_coverage_all_quantises_results_for_other_runtimes(build: Any) -> None:
    body = "a = Conv (x, w) b = Sigmoid (a) c = Mul (a, b) d = Conv (c, v) y = Relu (d)"
    assert names(placed(build, body, "all")) == {
        "x": ["Conv 0"],
        "a": ["Mul 0", "Sigmoid 0"],
        "c": ["Conv 0"],
    }


def test_inputs_of_other_types_and_constants_are_no_activations(build: Any) -> None:
    model = build(
        f"{HEAD} (int64[n] i) => (float[n, 8] y) {{ a = Gather (t, i) y = MatMul (a, m) }}",
        {"t": np.ones((5, 8), np.float32), "m": np.ones((8, 8), np.float32)},
    )
    infer_shapes(model)
    layers = [layer.node for layer in weighted_layers(model)]
    found = place(model, layers)
    assert [str(value.name) for value in found.readers] == ["a"]
    assert isinstance(layers[0], ir.Node)
