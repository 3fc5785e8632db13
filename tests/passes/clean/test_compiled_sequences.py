"""Sequences whose elements are known are gone after the default recipe, and compile."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

import gossamer

HEAD = '<ir_version: 8, opset_import: ["": 17]> g (float[4, 6] x) => (float[a, b] y)'
BODIES = {
    "split and joined": """
        n = Constant <value = int64[2] {1, 3}> ()  s = SplitToSequence <axis = 0> (x, n)
        p = Constant <value = int64 {1}> ()  e = SequenceAt (s, p)
        t = SequenceInsert (s, e)  y = ConcatFromSequence <axis = 0> (t)""",
    "made and shortened": """
        a = Relu (x)  s = SequenceConstruct (x, a, x)  p = Constant <value = int64 {0}> ()
        t = SequenceErase (s, p)  y = ConcatFromSequence <axis = 1> (t)""",
    "a loop of three turns": """
        m = Constant <value = int64 {3}> ()  c = Constant <value_int = 1> ()
        b = Cast <to = 9> (c)
        y = Loop (m, b, x) <body = step (int64 i, bool go, float[4, 6] v) => (bool on, float[4, 6] w) {
            on = Identity (go)  w = Add (v, x) }>""",
}


@pytest.mark.parametrize("body", BODIES)
def test_values_of_known_sequences_equal_onnxruntimes(body: str) -> None:
    model = onnx.parser.parse_model(f"{HEAD} {{ {BODIES[body]} }}")
    x = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    (got,) = gossamer.compile(model).session().run(None, {"x": x})
    np.testing.assert_allclose(got, expected, rtol=1e-6)
