"""The ledger names every Q and DQ that no integer kernel took, and why."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

import gossamer
from gossamer.runtime.manifest import read_manifest

BODY = """
<ir_version: 10, opset_import: ["": 21]>
g (float[1, 8, 6, 6] x) => (float[1, 8, 6, 6] y, float[1, 8, 6, 6] z) {
  [q_in] q = QuantizeLinear (x, s, z0)      [dq_in] d = DequantizeLinear (q, s, z0)
  [dq_w] dw = DequantizeLinear <axis = 0> (w, sw)
  [conv] c = Conv (d, dw)
  [q_mid] m = QuantizeLinear (c, s, z0)     [dq_mid] f = DequantizeLinear (m, s, z0)
  [norm] n = Softmax (f)
  [q_wide] v = QuantizeLinear (n, s, z16)   [dq_wide] y = DequantizeLinear (v, s, z16)
  [other] z = Softmax <axis = 1> (f)
}
"""


def write_model(path: Path) -> Path:
    proto = onnx.parser.parse_model(BODY)
    rng = np.random.default_rng(0)
    arrays = {
        "s": np.float32(0.03),
        "z0": np.uint8(120),
        "z16": np.int16(3),
        "w": rng.integers(-127, 128, (8, 8, 1, 1), np.int8),
        "sw": rng.random(8, np.float32) * np.float32(0.01) + np.float32(1e-3),
    }
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items())
    onnx.save(proto, path)
    return path


def test_every_node_is_counted_once_and_what_is_left_has_a_reason(tmp_path: Path) -> None:
    artifact = gossamer.compile(write_model(tmp_path / "m.onnx"), out=tmp_path / "artifact")
    ledger = read_manifest(tmp_path / "artifact" / "manifest.json").ledger
    assert ledger == artifact.ledger
    left = {entry.name: entry.reason for entry in ledger.left}
    assert ledger.integer_nodes + len(left) == 8  # each Softmax has a DequantizeLinear of its own
    assert {"dq_in", "dq_w", "q_mid"}.isdisjoint(left)
    assert left["q_in"] == "quantises the model's input 'x'"
    assert left["q_wide"] == "no kernel computes with int16"
    assert left["dq_wide"] == "gives the model's output 'y'"
    for name, reader in (("dq_mid", "norm"), ("dq_mid_for_other", "other")):
        assert name not in left or f"Softmax node {reader!r}" in left[name]


def test_a_manifest_from_before_the_ledger_is_read(tmp_path: Path) -> None:
    gossamer.compile(write_model(tmp_path / "m.onnx"), out=tmp_path / "artifact", verify=False)
    file = tmp_path / "artifact" / "manifest.json"
    data = json.loads(file.read_text())
    del data["ledger"]
    file.write_text(json.dumps(data))
    assert read_manifest(file).ledger.left == ()
