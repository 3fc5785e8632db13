"""Weights that are stored as floats and quantised when the model runs are stored quantised.

Exporters of quantisation-aware training (PyTorch, TensorFlow, NNCF) write Q → DQ behind each float weight.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from gossamer.kernels.quantization import quantize_linear, spread

from ..canonical import looks_at
from ..parameters import Parameters, parameters_of
from ..writing import Writer, constant_of

__all__ = ["store_quantized"]

Array = np.ndarray[Any, Any]


@looks_at("QuantizeLinear")
def store_quantized(node: ir.Node) -> str:
    """Q of a constant is a constant."""
    given, array = parameters_of(node), constant_of(node.inputs[0])
    known = None if given is None else given.values()
    if given is None or array is None or known is None:
        return ""
    if array.dtype != np.float32 or known[0].dtype != np.float32:
        return ""
    kind = given.dtype.numpy()
    quantize = _integers if given.dtype.is_integer() else _floats
    writer = Writer(node)
    writer.give(writer.constant("quantized", quantize(array, known, given, node).astype(kind)))
    return f"its constant is stored as {given.dtype.name.lower()}"


def _integers(array: Array, known: tuple[Array, Array], given: Parameters, node: ir.Node) -> Array:
    dtype = given.dtype.name.lower()
    return quantize_linear(array, *known, dtype=dtype, axis=given.axis, block_size=given.block)


def _floats(array: Array, known: tuple[Array, Array], given: Parameters, node: ir.Node) -> Array:
    """Float8: x / scale, rounded to nearest even; what is too large becomes the largest."""
    quotient = array / spread(known[0], array.shape, given.axis, given.block)
    if not node.attributes.get_int("saturate", 1):
        return np.asarray(quotient)
    largest = float(ml_dtypes.finfo(given.dtype.numpy()).max)  # type: ignore[no-untyped-call]
    return np.asarray(np.clip(quotient, -largest, largest))
