"""Q and DQ come to the nodes that compute, and what is between moves integers; results stay the same.

Patterns are those of exporters: which one is said where it is named.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

import gossamer
from gossamer.passes.catalog import make_pass
from gossamer.passes.naming import name_everything
from gossamer.passes.reference import run_onnx
from gossamer.passes.report import PassReport
from gossamer.passes.shapes import infer_shapes

HEAD = '<ir_version: 10, opset_import: ["": 21]>'
RNG = np.random.default_rng
S = np.float32
SCALES = {"s": S(0.02), "z": np.uint8(128), "s2": S(0.05), "z2": np.uint8(10), "z0": np.uint8(0)}
X = RNG(0).standard_normal((1, 4, 6, 6), np.float32)


def formed(model: ir.Model) -> tuple[ir.Model, PassReport]:
    """The model in the form that kernels read, and the report."""
    copy = model.clone()
    name_everything(copy)
    infer_shapes(copy)
    return copy, make_pass("fuse-qdq", {})(copy).report  # type: ignore[attr-defined]


def operators(model: ir.Model) -> list[str]:
    """Operators in the order of nodes, Q and DQ by their letters."""
    short = {"QuantizeLinear": "Q", "DequantizeLinear": "DQ"}
    return [short.get(node.op_type, node.op_type) for node in model.graph]


def check(
    build: Any, body: str, expected: str, weights: dict[str, Any] | None = None, shape: str = ""
) -> ir.Model:
    """The body, from x to y, becomes the nodes that `expected` names, and gives the same bits."""
    dims = shape or "float[1, 4, 6, 6] x) => (float[a, b, c, d] y"
    model = build(f"{HEAD} g ({dims}) {{ {body} }}", SCALES | (weights or {}))
    model = build_without_unused(model)
    feeds = {"x": X}
    before = run_onnx(model, feeds)
    after, report = formed(model)
    assert operators(after) == expected.split(), report
    assert [v.name for v in after.graph.outputs] == [v.name for v in model.graph.outputs]
    for got, wanted in zip(run_onnx(after, feeds), before, strict=True):
        assert got.dtype == wanted.dtype
        assert np.array_equal(got, wanted)
    return after


def build_without_unused(model: ir.Model) -> ir.Model:
    for name, value in list(model.graph.initializers.items()):
        if not value.uses():
            del model.graph.initializers[name]
    return model


QDQ = "q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)"
END = "e = QuantizeLinear (m, s, z)  y = DequantizeLinear (e, s, z)"


@pytest.mark.parametrize(
    ("move", "weights"),
    [
        ("m = Transpose <perm = [0, 2, 3, 1]> (d)", {}),
        ("m = Reshape (d, to)", {"to": np.array([1, 2, 12, 6])}),
        ("m = Slice (d, a, b, c)", {"a": np.array([1]), "b": np.array([3]), "c": np.array([1])}),
        ("m = Gather <axis = 1> (d, to)", {"to": np.array([2, 0])}),
        ("m = Pad (d, to)", {"to": np.array([0, 0, 1, 1, 0, 0, 1, 1])}),
        ("m = Pad (d, to, v)", {"to": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "v": S(0.02) * S(3)}),
        ('m = Pad <mode = "reflect"> (d, to)', {"to": np.array([0, 0, 1, 1, 0, 0, 1, 1])}),
        ("m = MaxPool <kernel_shape = [2, 2], pads = [1, 1, 0, 0]> (d)", {}),
        ('m = Resize <mode = "nearest"> (d, , to)', {"to": np.array([1, 1, 2, 2], np.float32)}),
        ("m = DepthToSpace <blocksize = 2> (d)", {}),
        ("m = SpaceToDepth <blocksize = 2> (d)", {}),
        ("m = Expand (d, to)", {"to": np.array([2, 4, 6, 6])}),
        ("m = Tile (d, to)", {"to": np.array([1, 1, 2, 1])}),
        ("m = ReduceMax <keepdims = 1> (d, to)", {"to": np.array([2])}),
        ("f = DequantizeLinear (q, s, z)  m = Concat <axis = 1> (d, f)", {}),
    ],
)
def test_what_moves_data_moves_integers(build: Any, move: str, weights: dict[str, Any]) -> None:
    name = move.partition("m = ")[2].split(" ")[0]
    check(build, f"{QDQ} {move} {END}", f"Q {name} DQ", weights)
    check(build, f"{QDQ} {move} y = Softmax (m)", f"Q {name} DQ Softmax", weights)
    if "f =" not in move:
        body = f"d = Sigmoid (x) {move} {END}"
        check(build, body, f"Sigmoid Q {name} DQ", weights)


def test_split_and_two_readers_get_integers(build: Any) -> None:
    body = f"""{QDQ} a, b = Split <axis = 1, num_outputs = 2> (d)
        ra = Sigmoid (a)  rb = Tanh (a)  c = Mul (ra, rb)  y = Add (c, b)"""
    after = check(
        build,
        body,
        "Q Split DQ Sigmoid DQ Tanh Mul DQ Add".replace("DQ Sigmoid DQ", "DQ DQ DQ Sigmoid").replace(
            "Mul DQ Add", "Mul Add"
        ),
    )
    assert all(len(n.outputs[0].uses()) == 1 for n in after.graph if n.op_type == "DequantizeLinear")
    body = """t = Sigmoid (x)  a, b = Split <axis = 1, num_outputs = 2> (t)
        qa = QuantizeLinear (a, s, z)  qb = QuantizeLinear (b, s, z)
        da = DequantizeLinear (qa, s, z)  db = DequantizeLinear (qb, s, z)  y = Add (da, db)"""
    check(build, body, "Sigmoid Q Split DQ DQ Add")


def test_concat_of_other_scales_is_quantized_part_by_part(build: Any) -> None:
    body = f"""{QDQ} t = Sigmoid (x)  q2 = QuantizeLinear (x, s2, z2)  d2 = DequantizeLinear (q2, s2, z2)
        m = Concat <axis = 1> (d, t, d2)  {END}"""
    after = check(build, body, "Q Sigmoid Q DQ Q Q Concat DQ")
    (concat,) = (n for n in after.graph if n.op_type == "Concat")
    assert concat.inputs[0] is after.graph[0].outputs[0]


def test_a_pad_with_what_no_integer_stands_for_stays(build: Any) -> None:
    weights = {"to": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "v": S(0.011)}
    model = build(
        f"{HEAD} g (float[1, 4, 6, 6] x) => (float[1, 4, 8, 8] y) {{ {QDQ} y = Pad (d, to, v) }}",
        {"s": S(0.02), "z": np.uint8(128)} | weights,
    )
    after, report = formed(model)
    assert operators(after) == ["Q", "DQ", "Pad"]
    assert "no integer stands for 0.011" in report.refused[0].reason


def test_other_parameters_and_other_readers_keep_the_quantizer_behind(build: Any) -> None:
    body = """m = Transpose <perm = [0, 1, 3, 2]> (x)  e = QuantizeLinear (m, s, z)
        f = DequantizeLinear (e, s, z)  y = Add (f, m)"""
    check(build, body, "Transpose Q DQ Add")


def test_transposes_of_tensorflow_meet_and_vanish(build: Any) -> None:
    """tf2onnx: what was NHWC is turned before and after each convolution, with Q and DQ between."""
    body = """t = Transpose <perm = [0, 2, 3, 1]> (x)  q = QuantizeLinear (t, s, z)
        d = DequantizeLinear (q, s, z)  u = Transpose <perm = [0, 3, 1, 2]> (d)
        qw = QuantizeLinear <axis = 0> (w, sw, zw)  dw = DequantizeLinear <axis = 0> (qw, sw, zw)
        c = Conv (u, dw)  r = Relu (c)  m = Transpose <perm = [0, 2, 3, 1]> (r)
        e = QuantizeLinear (m, s2, z0)  f = DequantizeLinear (e, s2, z0)
        v = Transpose <perm = [0, 3, 1, 2]> (f)  y = Sigmoid (v)"""
    w = RNG(1).standard_normal((5, 4, 1, 1), np.float32)
    weights = {"w": w, "sw": np.full(5, 0.02, np.float32), "zw": np.zeros(5, np.int8)}
    after = check(build, body, "Q DQ DQ Conv Q DQ Sigmoid", weights)
    stored = [
        v.const_value.dtype
        for v in after.graph.initializers.values()
        if v.const_value and v.shape == [5, 4, 1, 1]
    ]
    assert stored == [ir.DataType.INT8]


@pytest.mark.parametrize("kind", ["relu before", "clip before", "relu after", "clip after"])
def test_saturation_does_what_relu_and_clip_would(build: Any, kind: str) -> None:
    weights = {"lo": S(0), "hi": S(6), "s6": S(6 / 255)}
    q, dq = "QuantizeLinear", "DequantizeLinear"
    bodies = {
        "relu before": f"r = Relu (t)  q = {q} (r, s, z0)  y = {dq} (q, s, z0)",
        "clip before": f"r = Clip (t, lo, hi)  q = {q} (r, s6, z0)  y = {dq} (q, s6, z0)",
        "relu after": f"q = {q} (t, s, z0)  d = {dq} (q, s, z0)  y = Relu (d)",
        "clip after": f"q = {q} (t, s6, z0)  d = {dq} (q, s6, z0)  y = Clip (d, lo)",
    }
    check(build, f"t = Tanh (x)  {bodies[kind]}", "Tanh Q DQ", weights)


@pytest.mark.parametrize(
    "body",
    [
        "t = Tanh (x)  r = Relu (t)  q = QuantizeLinear (r, s, z)  y = DequantizeLinear (q, s, z)",
        "t = Tanh (x)  r = Clip (t, lo, hi)  q = QuantizeLinear (r, s, z0)  y = DequantizeLinear (q, s, z0)",
        "t = Tanh (x)  q = QuantizeLinear (t, s, z)  d = DequantizeLinear (q, s, z)  y = Relu (d)",
    ],
)
def test_relu_and_clip_that_saturation_does_not_do_stay(build: Any, body: str) -> None:
    found = operators(
        check(
            build,
            body,
            "Tanh Relu Q DQ"
            if "r = Relu" in body
            else "Tanh Clip Q DQ"
            if "Clip" in body
            else "Tanh Q DQ Relu",
            {"lo": S(0), "hi": S(0.5)},
        )
    )
    assert len(found) == 4


def test_seven_bits_of_pytorch_are_clipped_before_they_are_quantized(build: Any) -> None:
    """torch.onnx writes fake quantisation to 7 bits as Q, Clip of integers, DQ."""
    body = """q = QuantizeLinear (x, s, z0)  c = Clip (q, lo, hi)  y = DequantizeLinear (c, s, z0)"""
    check(build, body, "Clip Q DQ", {"lo": np.uint8(0), "hi": np.uint8(127)})


def test_equal_quantizers_of_nncf_become_one(build: Any) -> None:
    """NNCF and OpenVINO put a quantizer before each reader."""
    body = """t = Tanh (x)  q = QuantizeLinear (t, s, z)  d = DequantizeLinear (q, s, z)  a = Sigmoid (d)
        p = QuantizeLinear (t, s, z)  f = DequantizeLinear (p, s, z)  y = Mul (a, f)"""
    check(build, body, "Tanh Q DQ Sigmoid DQ Mul")


def test_weights_quantized_when_run_are_stored_quantized(build: Any) -> None:
    """PyTorch and TensorFlow: a float weight, Q and DQ; here behind a Transpose, as NNCF writes MatMul."""
    w = RNG(1).standard_normal((6, 5), np.float32)
    weights = {"w": w, "sw": RNG(2).random(6, np.float32) + S(0.01), "zw": np.zeros(6, np.int8)}
    body = """qw = QuantizeLinear <axis = 0> (w, sw, zw)  dw = DequantizeLinear <axis = 0> (qw, sw, zw)
        t = Transpose (dw)  u = Transpose (t)  y = MatMul (x, u)"""
    after = check(build, body, "DQ MatMul", weights)
    assert after.graph[0].attributes["axis"].as_int() == 0
    assert [v.dtype for v in after.graph.initializers.values() if v.shape == [6, 5]] == [ir.DataType.INT8]


@pytest.mark.parametrize("kind", ["float8e4m3fn", "float8e5m2"])
def test_float8_weights_are_stored_as_onnxruntime_rounds_them(build: Any, kind: str) -> None:
    dtype = {"float8e4m3fn": ml_dtypes.float8_e4m3fn, "float8e5m2": ml_dtypes.float8_e5m2}[kind]
    w = RNG(1).standard_normal((6, 500), np.float32) * np.float32(300)
    body = "qw = QuantizeLinear (w, s1, z8)  dw = DequantizeLinear (qw, s1, z8)  y = MatMul (x, dw)"
    check(build, body, "DQ MatMul", {"w": w, "s1": S(0.5), "z8": np.zeros((), dtype)})


@pytest.mark.parametrize("kind", [ml_dtypes.int4, ml_dtypes.uint4, np.int8])
def test_blocks_follow_a_transpose_of_their_weight(build: Any, kind: Any) -> None:
    q = RNG(1).integers(0, 8, (5, 6)).astype(kind)
    weights = {"w": q, "sw": RNG(2).random((5, 2), np.float32), "zw": np.ones((5, 2), kind)}
    body = """dw = DequantizeLinear <axis = 1, block_size = 3> (w, sw, zw)  t = Transpose (dw)
        y = MatMul (x, t)"""
    after = check(build, body, "DQ MatMul", weights)
    assert after.graph[0].attributes["axis"].as_int() == 0


def test_outputs_of_the_graph_keep_their_names_and_types(build: Any) -> None:
    body = f"{QDQ} y = Transpose <perm = [0, 2, 3, 1]> (d)  o = Sigmoid (d)  i = Reshape (q, to)"
    given = "float[1, 4, 6, 6] x) => (float[a, b, c, d] y, float[1, 4, 6, 6] o"
    shape = f"{given}, uint8[4, 36] i, uint8[1, 4, 6, 6] q"
    check(build, body, "Q DQ Transpose DQ Sigmoid Reshape", {"to": np.array([4, 36])}, shape)
    body = "q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)  e = QuantizeLinear (d, s, z)"
    shape = "float[1, 4, 6, 6] x) => (uint8[1, 4, 6, 6] q, float[1, 4, 6, 6] d, uint8[1, 4, 6, 6] e"
    check(build, body, "Q DQ Identity", {}, shape)


def test_integers_of_16_bits_move_where_onnxruntime_can_move_them(build: Any) -> None:
    weights = {"z16": np.int16(5), "to": np.array([1, 4, 36])}
    body = """q = QuantizeLinear (x, s, z16)  d = DequantizeLinear (q, s, z16)  r = Reshape (d, to)
        y = Tanh (r)"""
    check(build, body, "Q Reshape DQ Tanh", weights, "float[1, 4, 6, 6] x) => (float[1, 4, 36] y")
    body = """q = QuantizeLinear (x, s, z16)  d = DequantizeLinear (q, s, z16)
        y = MaxPool <kernel_shape = [2, 2]> (d)"""
    check(build, body, "Q DQ MaxPool", weights)


def test_the_form_stays_when_the_pass_runs_again(build: Any) -> None:
    body = f"""{QDQ} m = MaxPool <kernel_shape = [2, 2]> (d)  a = Sigmoid (m)  b = Tanh (d)
        e = QuantizeLinear (a, s2, z2)  f = DequantizeLinear (e, s2, z2)  y = Softmax (f)"""
    model = build(f"{HEAD} g (float[1, 4, 6, 6] x) => (float[1, 4, 5, 5] y) {{ {body} }}", SCALES)
    once, _ = formed(model)
    twice, report = formed(once)
    assert Counter(operators(once)) == Counter(operators(twice))
    assert not report.changed


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("zeros", [False, True])
def test_rows_of_a_table_are_gathered_in_bytes(build: Any, count: int, zeros: bool) -> None:
    """An embedding whose rows have scales of their own."""
    zero = ", zt" if zeros else ""
    text = f"""{HEAD} g (int64[2, {count}] i) => (float[2, {count}, 6] y) {{
        d = DequantizeLinear <axis = 0> (table, st{zero})  y = Gather (d, i) }}"""
    table = RNG(1).integers(-128, 128, (9, 6), np.int8)
    weights = {"table": table, "st": RNG(2).random(9, np.float32) + S(0.1)}
    weights |= {"zt": RNG(3).integers(-9, 9, 9, np.int8)} if zeros else {}
    model, feeds = build(text, weights), {"i": RNG(4).integers(-9, 9, (2, count))}
    after, _ = formed(model)
    wanted = ["Reshape", "Gather", "Gather", *(["Gather"] if zeros else []), "DQ", "Reshape"]
    assert sorted(operators(after)) == sorted(wanted)
    assert np.array_equal(run_onnx(after, feeds)[0], run_onnx(model, feeds)[0])
    with gossamer.compile(model).session() as session:
        assert np.array_equal(session.run(None, feeds)[0], run_onnx(model, feeds)[0])


@pytest.mark.parametrize(
    ("pads", "value", "joined"),
    [
        ([0, 0, 1, 2, 0, 0, 0, 1], 0.0, True),
        ([0, 0, 1, 1, 0, 0, 1, 1], 0.02, False),
        ([0, 1, 0, 0, 0, 0, 0, 0], 0.0, False),
        ([0, 0, -1, 0, 0, 0, 1, 0], 0.0, False),
    ],
)
def test_a_pad_with_what_stands_for_zero_joins_its_convolution(
    build: Any, pads: list[int], value: float, joined: bool
) -> None:
    """Keras pads on its own before a convolution of stride 2."""
    body = f"""{QDQ} p = Pad (d, to, v)  e = QuantizeLinear (p, s, z)  f = DequantizeLinear (e, s, z)
        dw = DequantizeLinear (w, s)  y = Conv <pads = [0, 1, 0, 0], strides = [2, 2]> (f, dw)"""
    channels = 4 + pads[1]
    weights = {"to": np.array(pads), "v": S(value), "w": RNG(1).integers(-9, 9, (5, channels, 3, 3), np.int8)}
    expected = "Q DQ DQ Conv" if joined else "Q Pad DQ DQ Conv"
    after = check(build, body, expected, weights)
    (conv,) = (node for node in after.graph if node.op_type == "Conv")
    assert list(conv.attributes["pads"].as_ints()) == ([1, 3, 0, 1] if joined else [0, 1, 0, 0])
