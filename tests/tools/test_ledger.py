"""What is left of quantised values is shown by `compile` and `inspect`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from .conftest import Run

BODY = """
<ir_version: 10, opset_import: ["": 21]>
g (float[1, 8, 6, 6] x) => (float[1, 8, 6, 6] y) {
  [q_in] q = QuantizeLinear (x, s, z)  [dq_in] d = DequantizeLinear (q, s, z)
  [dq_w] dw = DequantizeLinear (w, s)  [conv] c = Conv (d, dw)
  [q_out] m = QuantizeLinear (c, s, z)  [dq_out] y = DequantizeLinear (m, s, z)
}
"""


def test_inspecting_and_compiling_show_the_ledger(run: Run, tmp_path: Path) -> None:
    proto, weight = onnx.parser.parse_model(BODY), np.arange(-32, 32, dtype=np.int8).reshape(8, 8, 1, 1)
    for name, array in {"s": np.float32(0.03), "z": np.uint8(120), "w": weight}.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    onnx.save(proto, tmp_path / "m.onnx")
    folder = tmp_path / "artifact"
    (artifact,) = run("compile", tmp_path / "m.onnx", "-o", folder, "--json").data["artifacts"]
    assert run("inspect", folder, "--json").data["ledger"] == artifact["ledger"]
    left = {entry["name"]: entry["reason"] for entry in artifact["ledger"]["left"]}
    assert left["q_in"] == "quantises the model's input 'x'"
    assert left["dq_out"] == "gives the model's output 'y'"
    text = run("inspect", folder).out
    assert "q_in" in text
    count = artifact["ledger"]["integer_nodes"]
    assert f"{count} QuantizeLinear and DequantizeLinear nodes run in integers, {len(left)} are left" in text
