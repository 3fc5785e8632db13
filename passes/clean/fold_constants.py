"""What depends on nothing but constants is computed now."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from math import prod
from typing import Annotated, ClassVar

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass
from onnxscript.optimizer import fold_constants_ir
from pydantic import Field

from gossamer.runtime.errors import UnsupportedError

from ..base import Pass, record_removed
from ..naming import functions_aside, name_everything
from ..report import PassReport
from ..shapes import infer_shapes

__all__ = ["FoldConstants"]

_KEPT = frozenset({"DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear"})
"""Quantised weights stay quantised."""
_DATA_SIZED = frozenset({"NonZero", "Unique", "Compress", "Slice", "Squeeze", "StringNormalizer"})
"""Output shapes that inference may not know, but which never outgrow the inputs."""
_ROUNDS = 6
_SMALL = 64
"""Elements of a tensor whose values, such as a shape, inference is given."""


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Infer shapes and evaluate nodes whose inputs are constant, until nothing changes.

    A result of more than `limit_bytes` is folded only where it is no larger than the constants it replaces;
    its size is known before it is computed, so that a small model cannot ask for a large one.
    """

    limit_bytes: Annotated[int, Field(ge=0)] = 64 << 10
    stage: ClassVar[str] = "clean"
    exact: ClassVar[bool] = True

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Fold in place; each node that vanishes is a change."""
        before = list(model.graph)
        infer_shapes(model)
        _settle_casts(model)
        for _ in range(_ROUNDS):
            if not self._fold(model, report):
                break
            infer_shapes(model)
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        record_removed(report, before, model, "computed")

    def _fold(self, model: ir.Model, report: PassReport) -> bool:
        versions = dict(model.opset_imports)
        try:
            with functions_aside(model), warnings.catch_warnings(), _logging_off():
                # numpy warns of what a constant expression of the model does, such as 1 / 0.
                warnings.simplefilter("ignore")
                modified = fold_constants_ir(
                    model,
                    onnx_shape_inference=True,
                    input_size_limit=2**62,
                    output_size_limit=2**62,
                    should_fold=lambda node: self._should_fold(node, versions),
                ).modified
        except RuntimeError as error:
            # What was folded before stays, and the rest is computed at each run.
            report.notes.append(f"folding stopped: {error}: {error.__cause__ or ''}")
            modified = False
        except Exception as error:
            # The evaluator meets expressions that no schema forbids, and may have changed the graph by half.
            raise UnsupportedError(
                "an expression of constants cannot be computed", got=f"{type(error).__name__}: {error}"
            ) from error
        for value in model.graph.initializers.values():
            value.metadata_props.clear()
        name_everything(model)
        return modified

    def _should_fold(self, node: ir.Node, versions: dict[str, int]) -> bool | None:
        if node.domain not in ("", "ai.onnx", "ai.onnx.ml") or node.op_type in _KEPT:
            return False
        size = _output_bytes(node, versions)
        if size is None:
            return node.op_type in _DATA_SIZED
        return size <= max(self.limit_bytes, _input_bytes(node))


def _settle_casts(model: ir.Model) -> None:
    """CastLike becomes Cast with all its attributes, some of which folding would drop."""
    for node in model.graph.all_nodes():
        like = node.inputs[1] if node.op_type == "CastLike" and len(node.inputs) > 1 else None
        if like is not None and like.dtype is not None and node.domain in ("", "ai.onnx"):
            node.attributes["to"] = ir.AttrInt64("to", int(like.dtype))
            node.op_type = "Cast"
            node.resize_inputs(1)


def _input_bytes(node: ir.Node) -> int:
    """Bytes of constants that vanish with the node."""
    mine = {v for v in node.inputs if v is not None and all(use.node is node for use in v.uses())}
    return sum(value.const_value.nbytes for value in mine if value.const_value is not None)


def _output_bytes(node: ir.Node, versions: dict[str, int]) -> int | None:
    """Bytes of the outputs by inference from the inputs alone, never by what the file claims; None if
    unknown."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    tensors = {
        v.name or "": v.const_value for v in node.inputs if v is not None and v.const_value is not None
    }
    types = {name: _type_of(tensor) for name, tensor in tensors.items()}
    small = {name: ir.to_proto(tensor) for name, tensor in tensors.items() if tensor.size <= _SMALL}
    for name, proto in small.items():
        proto.name = name
    try:
        schema = onnx.defs.get_schema(node.op_type, versions.get(domain, 1), domain)
        found = onnx.shape_inference.infer_node_outputs(schema, ir.to_proto(node), types, small)
    except Exception:
        # Inference refuses in many ways, and each means the same: the size is not known.
        return None
    sizes = [_type_bytes(kind) for kind in found.values()]
    return None if not sizes or None in sizes else sum(size for size in sizes if size is not None)


def _type_of(tensor: ir.TensorProtocol) -> onnx.TypeProto:
    return onnx.helper.make_tensor_type_proto(int(tensor.dtype), list(tensor.shape.numpy()))


def _type_bytes(kind: onnx.TypeProto) -> int | None:
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    if not all(dim.HasField("dim_value") for dim in dims):
        return None
    element = ir.DataType(kind.tensor_type.elem_type)
    width = 64 if element == ir.DataType.STRING else element.bitwidth
    return prod(int(dim.dim_value) for dim in dims) * int(width) // 8


class _logging_off:  # noqa: N801  # reads as a phrase where it is used
    """onnxscript tells of each node that it does not fold; the report says it better."""

    def __enter__(self) -> None:
        logging.disable(logging.ERROR)

    def __exit__(self, *error: object) -> None:
        logging.disable(logging.NOTSET)
