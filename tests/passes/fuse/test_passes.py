"""Fusing keeps the results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gossamer.passes.catalog import make_pass
from gossamer.passes.reference import run_onnx
from gossamer.passes.shapes import infer_shapes

from ...tolerances import require_agreement

HEAD = '<ir_version: 10, opset_import: ["": 21]>'


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize(
    ("pads", "mode", "value", "fused"),
    [
        ([0, 0, 1, 2, 0, 0, 3, 4], "constant", 0.0, True),
        ([0, 0, 1, 1, 0, 0, 1, 1], "constant", 1.0, False),
        ([0, 0, 1, 1, 0, 0, 1, 1], "reflect", 0.0, False),
        ([0, 1, 0, 0, 0, 1, 0, 0], "constant", 0.0, False),
        ([0, 0, -1, 0, 0, 0, 0, 0], "constant", 0.0, False),
    ],
)
def test_a_pad_of_zeros_joins_its_convolution(
    build: Any, pads: list[int], mode: str, value: float, fused: bool
) -> None:
    channels = 4 + pads[1] + pads[5]
    text = f"""{HEAD} g (float[1, 4, 8, 8] x) => (float[1, 6, a, b] y) {{
      [pad] t = Pad <mode = "{mode}"> (x, p, v)  [conv] y = Conv <pads = [1, 0, 0, 1]> (t, w) }}"""
    weights = {"p": np.array(pads, np.int64), "v": np.float32(value), "w": normal(6, channels, 3, 3)}
    model = build(text, weights)
    infer_shapes(model)
    feeds = {"x": normal(1, 4, 8, 8, seed=1)}
    before = run_onnx(model, feeds)[0]
    report = make_pass("fuse-pads", {})(model).report  # type: ignore[attr-defined]
    assert (len(report.changed), len(report.refused)) == (int(fused), int(not fused))
    assert [node.name for node in model.graph] == (["conv"] if fused else ["pad", "conv"])
    require_agreement(run_onnx(model, feeds)[0], before)


def test_a_scalar_scale_and_shift_join_their_convolution(build: Any) -> None:
    text = f"""{HEAD} g (float[1, 4, 8, 8] x) => (float[1, 6, 6, 6] y) {{
      [conv] a = Conv (x, w, b)  c = Mul (a, s)  y = Add (c, o) }}"""
    weights = {"w": normal(6, 4, 3, 3), "b": normal(6), "s": np.float32(0.5), "o": np.float32(2)}
    model = build(text, weights)
    feeds = {"x": normal(1, 4, 8, 8, seed=1)}
    before = run_onnx(model, feeds)[0]
    report = make_pass("fuse-affine", {})(model).report  # type: ignore[attr-defined]
    assert len(report.changed) == 2
    assert [node.op_type for node in model.graph] == ["Conv"]
    require_agreement(run_onnx(model, feeds)[0], before)


WRITTEN_OUT = {
    "pow, div": "s = Pow (d, two)  v = ReduceMean (s, last)  e = Add (v, eps)  r = Sqrt (e)  n = Div (d, r)",
    "mul, reciprocal": """s = Mul (d, d)  v = ReduceMean (s, last)  e = Add (v, eps)  q = Sqrt (e)
                          r = Reciprocal (q)  n = Mul (d, r)""",
}


@pytest.mark.parametrize("body", WRITTEN_OUT.values(), ids=WRITTEN_OUT)
@pytest.mark.parametrize("scaled", ["a = Mul (n, g)  y = Add (a, b)", "a = Mul (g, n)  y = Add (b, a)"])
@pytest.mark.parametrize(("parameters", "fused"), [((16,), True), ((5, 1), False), ((1,), False)])
def test_a_layer_norm_written_out_becomes_one_node(
    build: Any, body: str, scaled: str, parameters: tuple[int, ...], fused: bool
) -> None:
    text = f"""{HEAD} h (float[2, 5, 16] x) => (float[2, 5, 16] y) {{
      m = ReduceMean (x, last)  d = Sub (x, m)  {body}  {scaled} }}"""
    weights = {"last": np.array([-1]), "two": np.float32(2), "eps": np.float32(1e-3)}
    model = build(text, weights | {"g": normal(*parameters), "b": normal(*parameters, seed=2)})
    infer_shapes(model)
    feeds = {"x": normal(2, 5, 16, seed=1)}
    before = run_onnx(model, feeds)[0]
    report = make_pass("fuse-layer-norm", {})(model).report  # type: ignore[attr-defined]
    assert bool(report.changed) == fused
    operators = [node.op_type for node in model.graph]
    assert operators == ["LayerNormalization"] if fused else "LayerNormalization" not in operators
    require_agreement(run_onnx(model, feeds)[0], before)
