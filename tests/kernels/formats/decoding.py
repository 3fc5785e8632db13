"""Formats' functions as a converted file has them: run by onnxruntime over the parts as initializers."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnx_ir as ir
import onnxruntime

from gossamer.kernels.formats import DOMAIN, Format
from gossamer.kernels.formats.base import FUNCTION_OPSET, Array

__all__ = ["decode_with_onnxruntime"]


def decode_with_onnxruntime(
    kind: Format, parts: Mapping[str, Array], rank: int, element: int = onnx.TensorProto.FLOAT
) -> Array:
    """What the checked function of `kind` gives for `parts`: an array of `rank` axes."""
    initializers = [onnx.numpy_helper.from_array(parts[name], name) for name in kind.parts]
    node = onnx.helper.make_node(kind.operator, list(kind.parts), ["W"], domain=DOMAIN)
    info = onnx.helper.make_tensor_value_info("W", element, [None] * rank)
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", [], [info], initializers),
        functions=[ir.to_proto(kind.function())],
        opset_imports=[onnx.helper.make_opsetid("", FUNCTION_OPSET), onnx.helper.make_opsetid(DOMAIN, 1)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: Array = session.run(None, {})[0]
    return result
