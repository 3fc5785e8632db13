"""Each cleaning pass does its work, keeps the results, and says what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from gossamer.passes.catalog import make_pass
from gossamer.passes.loading import load_model
from gossamer.passes.naming import name_everything
from gossamer.passes.reference import run_onnx
from gossamer.passes.report import PassReport
from gossamer.passes.shapes import infer_shapes
from gossamer.runtime.errors import ModelError

from ...tolerances import require_agreement

HEAD = '<ir_version: 10, opset_import: ["": 21]>'
Rng = np.random.Generator


def run(name: str, model: ir.Model, **options: Any) -> PassReport:
    report: PassReport = make_pass(name, options)(model).report  # type: ignore[attr-defined]
    name_everything(model)
    return report


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def norms(channels: int) -> dict[str, Any]:
    return {"s": normal(channels, seed=1), "o": normal(channels, seed=2), "m": normal(channels, seed=3)} | {
        "v": np.abs(normal(channels, seed=4)) + np.float32(0.1)
    }


@pytest.mark.parametrize(
    ("operator", "shape", "weight"),
    [
        ("Conv <pads = [1, 1, 1, 1]> (x, w)", (2, 4, 6, 6), (8, 4, 3, 3)),
        ("Conv <pads = [1, 1, 1, 1]> (x, w, b)", (2, 4, 6, 6), (8, 4, 3, 3)),
        ("Conv <group = 2> (x, w)", (2, 4, 6, 6), (8, 2, 1, 1)),
        ("Conv (x, w)", (2, 4, 6), (8, 4, 3)),
        ("ConvTranspose <strides = [2, 2]> (x, w, b)", (1, 4, 5, 5), (4, 8, 3, 3)),
        ("ConvTranspose <group = 2> (x, w)", (1, 4, 5, 5), (4, 4, 3, 3)),
        ("Gemm <transB = 1, alpha = 0.5, beta = 2.0> (x, w, b)", (3, 4), (8, 4)),
        ("Gemm (x, w)", (3, 4), (4, 8)),
    ],
)
def test_batch_norms_fold(build: Any, operator: str, shape: tuple[int, ...], weight: tuple[int, ...]) -> None:
    dims = ", ".join(map(str, shape))
    rank = ", ".join("abcd"[: len(shape)])
    body = f"[into] t = {operator} y = BatchNormalization (t, s, o, m, v)"
    text = f"{HEAD} g (float[{dims}] x) => (float[{rank}] y) {{ {body} }}"
    used = {"w": normal(*weight)} | norms(8) | ({"b": normal(8, seed=5)} if "b)" in operator else {})
    model = build(text, used)
    feeds = {"x": normal(*shape, seed=9)}
    before = run_onnx(model, feeds)[0]
    report = run("fold-batch-norm", model)
    assert [(c.operator, c.detail.split()[-1]) for c in report.changed] == [("BatchNormalization", "into")]
    assert [node.name for node in model.graph] == ["into"]
    require_agreement(run_onnx(model, feeds)[0], before)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("t = Relu (x) y = BatchNormalization (t, s, o, m, v)", "it follows Relu"),
        ("y = BatchNormalization (x, s, o, m, v)", "it follows an input"),
        ("t = Conv (x, w) z = BatchNormalization (t, s, o, m, v) y = Add (z, t)", "is used elsewhere too"),
        (
            "t = Conv (x, w) z = BatchNormalization (t, s, o, m, v) u = Conv (z, w) y = Add (z, u)",
            "are shared",
        ),
        ("t = Conv (x, w) y, a, b = BatchNormalization <training_mode = 1> (t, s, o, m, v)", "training mode"),
        ("t = Conv (x, w) n = Neg (s) y = BatchNormalization (t, n, o, m, v)", "are not constant"),
    ],
)
def test_a_batch_norm_that_cannot_fold_is_refused(build: Any, body: str, reason: str) -> None:
    text = f"{HEAD} g (float[1, 4, 5, 5] x) => (float[1, 4, 5, 5] y) {{ {body} }}"
    model = build(text, {"w": normal(4, 4, 1, 1)} | norms(4))
    feeds = {"x": normal(1, 4, 5, 5, seed=9)}
    before = run_onnx(model, feeds)[0] if "training" not in body else None
    report = run("fold-batch-norm", model)
    assert not report.changed
    assert reason in report.refused[0].reason
    assert "BatchNormalization" in operators(model)
    assert before is None or np.array_equal(run_onnx(model, feeds)[0], before)


def test_identities_and_dropouts_go(build: Any) -> None:
    text = f"""{HEAD} g (float[2, 4] x) => (float[2, 4] y, float[2, 4] z) {{
      a = Identity (x)  b, unused = Dropout (a)  c = Relu (b)  d = Add (c, zero)
      e = Transpose <perm = [1, 0]> (d)  f = Transpose <perm = [1, 0]> (e)  h = Cast <to = 1> (f)
      y = Exp (h)  z = Identity (x)
    }}"""
    model = build(text, {"zero": np.float32(0)})
    feeds = {"x": normal(2, 4)}
    before = run_onnx(model, feeds)
    infer_shapes(model)
    run("remove-identities", model)
    run("remove-unused", model)
    assert operators(model) == ["Relu", "Exp", "Identity"]
    assert [value.name for value in (*model.graph.inputs, *model.graph.outputs)] == ["x", "y", "z"]
    assert all(np.array_equal(a, b) for a, b in zip(before, run_onnx(model, feeds), strict=True))


def test_a_graph_in_a_node_keeps_a_node_before_its_output(build: Any) -> None:
    text = f"""{HEAD} g (bool c, float[4] x) => (float[4] y) {{
      r = Relu (x)
      y = If (c) <then_branch = t () => (float[4] p) {{ p = Identity (r) }},
                  else_branch = e () => (float[4] q) {{ q = Neg (r) }}>
    }}"""
    model = build(text)
    run("remove-identities", model)
    got = run_onnx(model, {"c": np.array(True), "x": normal(4)})[0]
    assert np.array_equal(got, np.maximum(normal(4), 0))


def test_an_output_that_copies_an_output_stays(build: Any) -> None:
    loop = "b (float[2] s, float[2] n) => (float[2] t, float[2] u) { t = Add (s, n)  u = Identity (t) }"
    text = f"""{HEAD} g (float[2] s, float[3, 2] x) => (float[2] y, float[3, 2] z, float[3, 2] c) {{
      y, z = Scan <num_scan_inputs = 1, body = {loop}> (s, x)  c = Identity (z)
    }}"""
    model = build(text)
    feeds = {"s": normal(2), "x": normal(3, 2)}
    before = run_onnx(model, feeds)
    run("remove-identities", model)
    assert all(np.array_equal(a, b) for a, b in zip(before, run_onnx(model, feeds), strict=True))


def test_functions_are_inlined_at_any_depth(build: Any) -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "my": 1]>
    g (float[4] x) => (float[4] y) { y = my.outer (x) }
    <domain: "my", opset_import: ["": 21, "my": 1]> outer (a) => (b) { t = my.inner (a) b = my.inner (t) }
    <domain: "my", opset_import: ["": 21]>
    inner (a) => (b) { one = Constant <value_float = 1.0> () b = Add (a, one) }"""
    model = build(text)
    report = run("inline-functions", model)
    assert len(report.changed) == 1
    assert not model.functions
    assert np.array_equal(run_onnx(model, {"x": np.zeros(4, np.float32)})[0], np.full(4, 2, np.float32))


def test_functions_in_a_circle_are_refused() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "my": 1]>
    g (float[4] x) => (float[4] y) { y = my.a (x) }
    <domain: "my", opset_import: ["": 21, "my": 1]> a (p) => (q) { q = my.b (p) }
    <domain: "my", opset_import: ["": 21, "my": 1]> b (p) => (q) { q = my.a (p) }"""
    with pytest.raises(ModelError, match="in a circle"):
        run("inline-functions", ir.from_proto(onnx.parser.parse_model(text)))


def test_functions_that_explode_are_refused_before_they_do() -> None:
    text = (
        '<ir_version: 10, opset_import: ["": 21, "my": 1]> g (float[4] x) => (float[4] y) { y = my.f0 (x) }\n'
    )
    for level in range(30):
        inner = f"my.f{level + 1}" if level < 29 else "Relu"
        text += (
            f'<domain: "my", opset_import: ["": 21, "my": 1]> f{level} (p) => (q) '
            f"{{ t = {inner} (p) q = {inner} (t) }}\n"
        )
    with pytest.raises(ModelError, match="too many nodes"):
        run("inline-functions", ir.from_proto(onnx.parser.parse_model(text)))


@pytest.mark.parametrize("opset", [7, 8, 9, 11, 13, 15, 17, 18, 20])
def test_every_opset_comes_to_the_same_one(build: Any, opset: int) -> None:
    text = f"""<ir_version: 6, opset_import: ["": {opset}]> g (float[1, 3, 8, 8] x) => (float[1, 3] y) {{
      a = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
      b = GlobalAveragePool (a)  c = Flatten (b)  y = Softmax <axis = 1> (c)
    }}"""
    model = build(text)
    feeds = {"x": normal(1, 3, 8, 8)}
    before = run_onnx(model, feeds)[0]
    run("upgrade-opset", model)
    assert model.opset_imports[""] == 21
    require_agreement(run_onnx(model, feeds)[0], before)


def test_a_newer_opset_stays(build: Any) -> None:
    model = build('<ir_version: 10, opset_import: ["": 23]> g (float[4] x) => (float[4] y) { y = Relu (x) }')
    assert not run("upgrade-opset", model).changed
    assert model.opset_imports[""] == 23


def test_an_operator_that_no_converter_takes_stays_valid(build: Any) -> None:
    text = """<ir_version: 6, opset_import: ["": 9, "com.example": 1]> g (float[4] x) => (float[4] y) {
      t = Relu (x)  y = com.example.Strange (t) }"""
    model = build(text)
    report = run("upgrade-opset", model)
    reached = model.opset_imports[""]
    assert reached == 21 or "valid there" in report.refused[0].reason
    load_model(ir.to_proto(model).SerializeToString())


def test_a_scan_of_opset_8_is_left_alone(build: Any) -> None:
    body = "b (float[2] s, float[2] n) => (float[2] t) { t = Add (s, n) }"
    text = f"""<ir_version: 4, opset_import: ["": 8]>
    g (float[1, 2] s, float[1, 3, 2] x) => (float[1, 2] y) {{
      y = Scan <num_scan_inputs = 1, body = {body}> ("", s, x) }}"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    report = run("upgrade-opset", model)
    assert model.opset_imports[""] == 8
    assert "Scan has another meaning" in report.refused[0].reason


def test_inputs_with_defaults_and_constant_nodes_become_initializers(build: Any) -> None:
    text = """<ir_version: 3, opset_import: ["": 8]> g (float[4] x, float[4] w) => (float[4] y) {
      c = Constant <value = float[4] {1, 2, 3, 4}> ()  t = Add (x, w)  y = Add (t, c) }"""
    model = build(text, {"w": normal(4)})
    run("lift-constants", model)
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert set(model.graph.initializers) == {"w", "c"}
    assert operators(model) == ["Add", "Add"]


def test_a_small_model_cannot_ask_for_a_large_constant(build: Any) -> None:
    text = f"""{HEAD} g (float[1] x) => (float[?] y, float[?] z) {{
      big = Constant <value_ints = [1000000, 1000000]> ()  f = ConstantOfShape (big)
      r = ReduceMax <keepdims = 0> (f)  y = Add (x, r)
      p = Constant <value_ints = [4000000000]> ()  t = Expand (x, p)  z = Add (t, x)
    }}"""
    model = build(text)
    run("fold-constants", model)
    assert "ConstantOfShape" in operators(model)


def test_growing_constants_stay_computed_unless_allowed(build: Any) -> None:
    text = f"""{HEAD} g (float[64, 1024] x) => (float[64, 1024] y) {{
      s = Constant <value_ints = [64, 1024]> ()  t = Expand (w, s)  y = Add (x, t) }}"""
    model = build(text, {"w": normal(1, 1)})
    run("fold-constants", model)
    assert operators(model) == ["Expand", "Add"]
    run("fold-constants", model, limit_bytes=1 << 20)
    assert operators(model) == ["Add"]


def test_quantised_weights_stay_quantised(build: Any) -> None:
    text = f"{HEAD} g (float[1, 4] x) => (float[1, 4] y) {{ w = DequantizeLinear (q, s)  y = MatMul (x, w) }}"
    model = build(text, {"q": np.ones((4, 4), np.int8), "s": np.float32(0.5)})
    run("fold-constants", model)
    assert operators(model) == ["DequantizeLinear", "MatMul"]


def test_random_numbers_are_not_constants(build: Any) -> None:
    text = f"{HEAD} g (float[4] x) => (float[4] y) {{ r = RandomNormal <shape = [4]> ()  y = Add (x, r) }}"
    model = build(text)
    run("fold-constants", model)
    assert operators(model) == ["RandomNormal", "Add"]


def test_unused_nodes_and_weights_go(build: Any) -> None:
    text = f"{HEAD} g (float[4] x, float[4] other) => (float[4] y) {{ dead = Exp (x)  y = Add (x, w) }}"
    model = build(text, {"w": normal(4), "unused": normal(4)})
    report = run("remove-unused", model)
    assert operators(model) == ["Add"]
    assert set(model.graph.initializers) == {"w"}
    assert len(model.graph.inputs) == 2
    assert report.notes == ["1 initializers that nothing uses are gone"]


def test_names_are_unique_and_kept(build: Any) -> None:
    body = "[same] a = Relu (x)  [same] b = Exp (a)  c = Neg (b)  y = Abs (c)"
    text = f"{HEAD} g (float[4] x) => (float[4] y) {{ {body} }}"
    model = build(text)
    name_everything(model)
    names = [node.name for node in model.graph]
    assert names[0] == "same"
    assert len(set(names)) == 4
    assert names[2] == "Neg_2"
