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
