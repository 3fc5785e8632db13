"""What the compiler is promised of every prepared model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from gossamer.kernels.dims import BOUNDS
from gossamer.passes.clean import prepare
from gossamer.passes.input_shapes import parse_input_shapes
from gossamer.passes.loading import load_model
from gossamer.passes.reference import run_onnx
from gossamer.passes.report import Report
from gossamer.passes.shapes import static_shape
from gossamer.passes.verifying import sample_feeds, verify_conversion
from gossamer.runtime.errors import ModelError, OptionError

HEAD = '<ir_version: 10, opset_import: ["": 21]>'
SHARED = Path(__file__).parents[3] / ".." / "shared" / "models"
MODELS = sorted(SHARED.glob("*.onnx"))
SIZES = {"seq": 64, "sequence": 512}


def shapes_of(model: ir.Model) -> dict[str, list[int]]:
    return {
        str(v.name): [d if isinstance(d, int) else SIZES.get(d.value or "", 1) for d in v.shape or ()]
        for v in model.graph.inputs
        if not v.is_initializer()
    }


def check_promises(model: ir.Model) -> None:
    names = [node.name for node in model.graph.all_nodes()]
    assert all(names)
    assert len(set(names)) == len(names)
    assert model.opset_imports[""] == 21
    assert not model.functions
    for node in model.graph:
        assert node.op_type not in ("Constant", "Identity", "Dropout")
        for value in node.inputs:
            assert value is None or value.producer() or value.is_graph_input() or value.is_initializer()
        for value in node.outputs:
            assert not value.name or (static_shape(value) is not None and value.dtype is not None)
    assert not any(value.is_initializer() for value in model.graph.inputs)
    onnx.checker.check_model(ir.to_proto(model))


@pytest.mark.skipif(not MODELS, reason="the shared models are absent")
@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_real_models_keep_every_promise_and_their_outputs(path: Path) -> None:
    model = load_model(path)
    shapes = shapes_of(model)
    prepared = prepare(model, shapes)
    check_promises(prepared)
    feeds = sample_feeds(path, shapes)
    report = Report(path.stem, "default")
    checks = verify_conversion(path, prepared, report, feeds)
    assert checks


def test_symbols_bound_once_are_bound_everywhere(build: Any) -> None:
    text = f"{HEAD} g (float[n, 3] a, float[n, 3] b) => (float[n, 3] y) {{ y = Add (a, b) }}"
    prepared = prepare(build(text), {"a": [5, 3]})
    assert [static_shape(v) for v in (*prepared.graph.inputs, *prepared.graph.outputs)] == [(5, 3)] * 3


def test_a_given_shape_replaces_a_fixed_one(build: Any) -> None:
    body = "y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)"
    text = f"{HEAD} g (float[1, 3, 8, 8] x) => (float[1, 3, 4, 4] y) {{ {body} }}"
    prepared = prepare(build(text), {"x": [2, 3, 12, 12]})
    assert static_shape(prepared.graph.outputs[0]) == (2, 3, 6, 6)


def test_shapes_computed_from_shapes_become_constants(build: Any) -> None:
    text = f"""{HEAD} g (float[n, 3, 8, 8] x) => (float[n, m] y) {{
      s = Shape (x)  i = Constant <value = int64 {{0}}> ()  n = Gather (s, i)
      a = Constant <value_ints = [0]> ()  u = Unsqueeze (n, a)  r = Constant <value_ints = [-1]> ()
      t = Concat <axis = 0> (u, r)  y = Reshape (x, t)
    }}"""
    prepared = prepare(build(text), {"x": [2, 3, 8, 8]})
    assert [node.op_type for node in prepared.graph] == ["Reshape"]
    assert static_shape(prepared.graph.outputs[0]) == (2, 192)


def test_a_dimension_without_a_size_keeps_its_name(build: Any) -> None:
    model = build(f"{HEAD} g (float[batch, 3] x) => (float[batch, 3] y) {{ y = Relu (x) }}")
    cases: Any = ((None, "batch", {}), ({"x": ["2<=n<=8", 3]}, "n", {"n": (2, 8)}))
    for shapes, name, bounds in cases:
        prepared = prepare(model, shapes)
        assert str(prepared.graph.inputs[0].shape) == f"[{name},3]"
        assert prepared.graph.meta[BOUNDS] == bounds


def test_one_symbol_with_two_sizes_is_refused(build: Any) -> None:
    model = build(f"{HEAD} g (float[n, 3] a, float[n, 3] b) => (float[n, 3] y) {{ y = Add (a, b) }}")
    with pytest.raises(OptionError, match="dimension 'n' is given two sizes"):
        prepare(model, {"a": [1, 3], "b": [2, 3]})


@pytest.mark.parametrize(
    "text", ["x", "x:", ":1,2", "x:1,2a", "x:n<=0", "x:9<=n<=8", "x:n<8", "x:0", "x:-1", "x:1,,2", "x:1.5"]
)
def test_a_shape_that_is_not_one_is_refused(text: str) -> None:
    if text == "x:":
        assert parse_input_shapes([text]) == {"x": ()}
        return
    with pytest.raises(OptionError, match="not an input shape"):
        parse_input_shapes([text])


def test_preparing_leaves_the_source_alone(cnn: ir.Model) -> None:
    before = ir.to_proto(cnn).SerializeToString(deterministic=True)
    prepare(cnn)
    assert ir.to_proto(cnn).SerializeToString(deterministic=True) == before


def test_preparing_twice_changes_nothing(cnn: ir.Model, image: dict[str, Any]) -> None:
    once = prepare(cnn)
    twice = prepare(once)
    assert [(n.name, n.op_type) for n in once.graph] == [(n.name, n.op_type) for n in twice.graph]
    assert run_onnx(once, image)[0].tobytes() == run_onnx(twice, image)[0].tobytes()


def test_a_dimension_of_size_one_is_no_constant(build: Any) -> None:
    text = f"{HEAD} g (float[1, 3] x) => (float[1, 3] y) {{ y = Mul (x, w) }}"
    prepared = prepare(build(text, {"w": np.array([1, 1, 2], np.float32)}))
    assert [node.op_type for node in prepared.graph] == ["Mul"]


def test_a_shape_that_does_not_fit_the_graph_names_the_node(build: Any) -> None:
    text = f"{HEAD} g (float[1, 3] x) => (float[1, 4] y) {{ [mix] t = MatMul (x, w)  [act] y = Relu (t) }}"
    model = build(text, {"w": np.ones((3, 4), np.float32)})
    with pytest.raises(ModelError, match=r"mix: the shapes do not fit: .*MatMul"):
        prepare(model, {"x": [1, 5]})
