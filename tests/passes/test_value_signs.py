"""Values behind a ReLU are known not to be negative, as far as operators keep that so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gossamer.passes.value_signs import is_rectified

HEAD = '<ir_version: 10, opset_import: ["": 21]> g (float[1, 4, 6, 6] x) => (float[N, C, H, W] y)'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Relu (x)", True),
        ("y = Identity (x)", False),
        ("y = Neg (x)", False),
        ("a = Relu (x)  y = Neg (a)", False),
        ("a = Relu (x)  y = MaxPool <kernel_shape = [2, 2]> (a)", True),
        ("a = Relu (x)  b = Sigmoid (x)  y = Add (a, b)", True),
        ("a = Relu (x)  y = Add (a, x)", False),
        ("a = Relu (x)  y = Concat <axis = 1> (a, x)", False),
        ("a = Relu (x)  b = Add (a, a)  c = Add (b, b)  y = Mul (c, b)", True),
        ("l = Constant <value = float {0.0}> ()  y = Clip (x, l)", False),
        ("y = Clip (x, l0)", True),
        ("y = Clip (x, l1)", False),
        ("y = Clip (x)", False),
    ],
)
def test_signs_follow_from_operators(build: Any, body: str, expected: bool) -> None:
    weights = {"l0": np.zeros((), np.float32), "l1": np.full((), -1, np.float32)}
    model = build(f"{HEAD} {{ {body} }}", weights)
    assert is_rectified(model.graph.outputs[0]) is expected
    assert not is_rectified(None)
