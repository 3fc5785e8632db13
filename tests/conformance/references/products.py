"""MatMul and Gemm. https://onnx.ai/onnx/operators/onnx__Gemm.html"""

from __future__ import annotations

import numpy as np

from ..bounded import Attributes, Bounded, defines


@defines("MatMul")
def matmul(operator: str, attributes: Attributes, a: Bounded, b: Bounded) -> Bounded:
    """As numpy.matmul; errors of terms are independent, so that their squares add."""
    squares = a.value**2 @ b.error**2 + a.error**2 @ b.value**2
    found = Bounded(a.value @ b.value, np.asarray(np.sqrt(squares)))
    return found.rounded(operator, abs(a.value) @ abs(b.value))


@defines("Gemm")
def gemm(operator: str, attributes: Attributes, a: Bounded, b: Bounded, c: Bounded | None = None) -> Bounded:
    """alpha · A' B' + beta · C."""

    def turned(x: Bounded, name: str) -> Bounded:
        return Bounded(x.value.T, x.error.T) if attributes.get(name) else x

    product = matmul("Gemm", {}, turned(a, "transA"), turned(b, "transB"))
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    scaled = Bounded(alpha * product.value, abs(alpha) * product.error)
    if c is None:
        return scaled
    total = Bounded(scaled.value + beta * c.value, scaled.error + abs(beta) * c.error)
    return total.rounded(operator, abs(scaled.value) + abs(beta * c.value))
