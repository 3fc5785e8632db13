"""ONNX's own checks of a whole model: operators against schemas, and types and shapes against each other."""

from __future__ import annotations

import re

import onnx
import onnx_ir as ir
from onnx_ir.passes.common._c_api_utils import call_onnx_api

from gossamer.runtime.errors import ModelError

from .contrib.old_operators import without_old
from .quantized.checking import check_quantization
from .shapes import infer_shapes

__all__ = ["check_types"]

_FAILED = re.compile(r"\(op_type:([^,)]*)")
_NODE = re.compile(r"\(op_type:([^,)]*), node name: ([^)]*)\):")
_LONGEST = 300


def check_types(model: ir.Model, where: object) -> None:
    """Raises ModelError naming the first node whose operator, attributes, input types or shapes are wrong.

    Sizes that a file declares for values between nodes and for outputs do not count, as they are often those
    of another batch: where what the nodes give contradicts them, it takes their place.
    """
    _open_negative(model.graph)
    inferred = onnx.ModelProto()
    try:
        inferred = call_onnx_api(_checked, model)
    except Exception as error:
        _check_quantized(model)
        # Whatever a library says of a file that it cannot take is about the file.
        raise ModelError(f"not a valid ONNX model: {_root_cause(error)}", where=where) from None
    _correct_shapes(model.graph, inferred.graph)


def _checked(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The large initializers are inputs here, so neither check sees the data of any."""
    without_old(proto)
    unranked = [v.type.tensor_type for v in (*proto.graph.input, *proto.graph.output) if _is_unranked(v)]
    for tensor in unranked:
        tensor.shape.SetInParent()  # the checker asks for one, runtimes do not
    onnx.checker.check_model(proto)
    del proto.graph.value_info[:]
    outputs = [v.type.tensor_type for v in proto.graph.output if v.type.HasField("tensor_type")]
    for tensor in (*unranked, *outputs):
        tensor.ClearField("shape")
    try:
        # Data propagation takes memory by the sizes that a file claims.
        return onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=False)
    except onnx.shape_inference.InferenceError as error:
        if not _inside_definition(str(error), proto):
            raise
        return onnx.ModelProto()


def _check_quantized(model: ir.Model) -> None:
    """Our own check says more of zero points and scales."""
    known = model.clone()
    infer_shapes(known)
    check_quantization(known)


def _is_unranked(value: onnx.ValueInfoProto) -> bool:
    return value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")


def _open_negative(graph: ir.Graph) -> None:
    """Old exporters write -1 for a size of an input that is not known."""
    for value in graph.inputs:
        if value.shape is not None and any(isinstance(dim, int) and dim < 0 for dim in value.shape):
            value.shape = ir.Shape([None if isinstance(d, int) and d < 0 else d for d in value.shape])


def _correct_shapes(graph: ir.Graph, inferred: onnx.GraphProto) -> None:
    """Declared sizes that contradict what the nodes give are replaced."""
    values = {value.name: value for node in graph for value in node.outputs}
    for info in [*inferred.value_info, *inferred.output]:
        value = values.get(info.name)
        if value is not None and value.shape is not None and info.type.tensor_type.HasField("shape"):
            sizes = [_size(dim) for dim in info.type.tensor_type.shape.dim]
            if _contradict(value.shape, sizes):
                value.shape = ir.Shape(sizes)


def _size(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    return dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None


def _contradict(declared: ir.Shape, sizes: list[int | str | None]) -> bool:
    if len(declared) != len(sizes):
        return True
    pairs = zip(declared, sizes, strict=True)
    return any(isinstance(d, int) and isinstance(size, int) and d != size for d, size in pairs)


def _inside_definition(text: str, proto: onnx.ModelProto) -> bool:
    """Whether an operator's definition as a function is what failed, as MeanVarianceNormalization's does."""
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    found = _FAILED.search(text)
    try:
        schema = onnx.defs.get_schema(found[1] if found else "", versions.get("", 1))
    except onnx.defs.SchemaError:
        return False
    defined = any(getattr(schema, kind) for kind in ("has_function", "has_context_dependent_function"))
    return defined and text.count("Inference error") > 1


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()).removeprefix("[ShapeInferenceError] Inference error(s): ")
    text = _NODE.sub(r"\1 node '\2':", text.removeprefix("[ShapeInferenceError] "))
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
