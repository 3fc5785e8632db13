"""What a model or an artifact consists of, layer by layer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gossamer.kernels.formats import DOMAIN, format_of_operator

from .options import match_inputs

if TYPE_CHECKING:
    import onnx_ir as ir

    from gossamer.kernels.formats.base import Format

__all__ = ["inspect_artifact", "inspect_model"]

Row = dict[str, Any]


def inspect_artifact(folder: Path) -> dict[str, Any]:
    """`{"layers": [...], "totals": {...}, "ledger": {...}}` of an artifact, from its manifest.

    The ledger says of a quantised model how many Q and DQ nodes run in integers, and why each other is left.
    Raises ArtifactError.
    """
    from gossamer.runtime.manifest import read_manifest

    checked = read_manifest(folder / "manifest.json")  # below it is plain data
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    rows = [_layer_row(layer) for layer in manifest["layers"]]
    files = {name: int(entry["bytes"]) for name, entry in manifest["files"].items()}
    totals = {
        "layers": len(rows),
        "weight_bytes": int(manifest["weights"]["bytes"]),
        "macs": sum(row["macs"] or 0 for row in rows),
        "arena_bytes": int(manifest["arena_bytes"]),
        "arena_bound_bytes": int(manifest["arena_bound_bytes"]),
        "scratch_bytes": int(manifest["scratch_bytes"]),
        "files": files,
        "target": manifest["target"]["name"],
    }
    return {"layers": rows, "totals": totals, "ledger": asdict(checked.ledger)}


def _layer_row(layer: Mapping[str, Any]) -> Row:
    return {
        "name": layer["name"],
        "operator": "+".join([layer["operator"], *layer.get("fused", ())]),
        "kernel": layer["kernel"],
        "shape": list(layer["shape"]),
        "format": layer["format"] if layer["weight_bytes"] else None,
        "bits": layer["bits_per_weight"] if layer["weight_bytes"] else None,
        "sparsity": layer["sparsity"] if layer["weight_bytes"] else None,
        "bytes": layer["weight_bytes"] or None,
        "macs": layer["macs"] or None,
        "tile": layer.get("tile", ""),
        "reason": layer.get("reason", ""),
    }


def inspect_model(model: ir.Model, shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """`{"layers": [...], "totals": {...}}` of an ONNX model; the model is changed by shape inference.

    `shapes` gives symbolic dimensions of inputs numbers; MACs are None where a dimension stays unknown.
    """
    import onnx_ir
    from onnx_ir.passes.common import ShapeInferencePass

    match_inputs(shapes, [value.name or "" for value in model.graph.inputs])
    for value in model.graph.inputs:
        if (given := shapes.get(value.name or "")) is not None:
            value.shape = onnx_ir.Shape(given)
    model = ShapeInferencePass()(model).model
    decoders = {id(node): found for node in model.graph if (found := _decoder(node)) is not None}
    rows = [
        _node_row(node, decoders)
        for node in model.graph
        if id(node) not in decoders and node.op_type != "Constant"
    ]
    stored = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    unknown = sum(row["operator"] in _WITH_MACS and row["macs"] is None for row in rows)
    totals = {
        "layers": len(rows),
        "weight_bytes": stored,
        "macs": sum(row["macs"] or 0 for row in rows),
        "layers_of_unknown_macs": unknown,
    }
    return {"layers": rows, "totals": totals}


def _decoder(node: ir.Node) -> Format | None:
    if node.domain == DOMAIN:
        return format_of_operator(node.op_type)
    return None


def _node_row(node: ir.Node, decoders: Mapping[int, Format]) -> Row:
    weights = [w for value in node.inputs if value is not None and (w := _weight(value, decoders))]
    row: Row = {
        "name": node.name or "",
        "operator": node.op_type if not node.domain else f"{node.domain}.{node.op_type}",
        "shape": _shape(node.outputs[0]),
        "format": None,
        "bits": None,
        "sparsity": None,
        "bytes": sum(w["bytes"] for w in weights) or None,
        "macs": _macs(node, weights),
    }
    if weights:  # the largest is the layer's weight; the others are biases
        main = max(weights, key=lambda w: int(w["count"]))
        row |= {key: main[key] for key in ("format", "sparsity")}
        row["bits"] = 8 * main["bytes"] / max(1, main["count"])
    return row


def _weight(value: ir.Value, decoders: Mapping[int, Format]) -> Row | None:
    """Facts of a constant input: format, bytes stored, elements, shape, fraction of zeros."""
    if value.const_value is not None:
        array = value.const_value.numpy()
        return _facts(_dense_name(array), value.const_value.nbytes, array)
    producer = value.producer()
    if producer is None:
        return None
    arrays = [v.const_value for v in producer.inputs if v is not None]
    if not arrays or any(a is None for a in arrays):
        return None
    found = decoders.get(id(producer))
    constants = [a.numpy() for a in arrays if a is not None]
    stored = sum(a.nbytes for a in arrays if a is not None)
    if found is not None:
        parts = dict(zip(found.parts, constants, strict=True))
        return _facts(_sparse_name(found, parts), stored, found.decode(parts))
    if producer.op_type == "DequantizeLinear" and not producer.domain:
        zero = constants[2] if len(constants) > 2 else np.zeros((), constants[0].dtype)
        whole = constants[0] if zero.ndim == 0 and not zero.any() else None
        facts = _facts(f"quantized {arrays[0].dtype.name.lower()}" if arrays[0] else "", stored, constants[0])
        return facts if whole is not None else facts | {"sparsity": None}
    return None


def _dense_name(array: np.ndarray[Any, Any]) -> str:
    return "dense" if array.dtype == np.float32 else f"dense {array.dtype}"


def _sparse_name(found: Format, parts: Mapping[str, np.ndarray[Any, Any]]) -> str:
    values = parts.get("values")
    if values is not None and values.ndim == 3:
        return f"{found.name} {values.shape[1]}x{values.shape[2]}"
    return found.name


def _facts(name: str, stored: int, array: np.ndarray[Any, Any]) -> Row:
    zeros = 1 - np.count_nonzero(array) / array.size if array.size else 0.0
    return {
        "format": name,
        "bytes": stored,
        "count": array.size,
        "shape": array.shape,
        "sparsity": float(zeros),
    }


def _shape(value: ir.Value) -> list[int | str] | None:
    if value.shape is None:
        return None
    return [d if isinstance(d, int) else str(d.value or "?") for d in value.shape]


def _known(value: ir.Value | None) -> list[int] | None:
    shape = _shape(value) if value is not None else None
    if shape is None or not all(isinstance(d, int) for d in shape):
        return None
    return [d for d in shape if isinstance(d, int)]


_WITH_MACS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def _macs(node: ir.Node, weights: Sequence[Row]) -> int | None:
    """Multiply-accumulates of one run; None for other operators and where a shape is unknown."""
    if node.domain or node.op_type not in _WITH_MACS:
        return None
    first, out = _known(node.inputs[0]), _known(node.outputs[0])
    if node.op_type == "ConvTranspose":
        kernel = _weight_shape(node, weights)
        return prod(first) * prod(kernel[1:]) if first and kernel else None
    if out is None:
        return None
    if node.op_type == "Conv":
        kernel = _weight_shape(node, weights)
        return prod(out) * prod(kernel[1:]) if kernel else None
    if not first:
        return None
    transposed = node.op_type == "Gemm" and bool(node.attributes.get_int("transA", 0))
    return prod(out) * (first[0] if transposed else first[-1])


def _weight_shape(node: ir.Node, weights: Sequence[Row]) -> list[int] | None:
    known = _known(node.inputs[1])
    if known is not None:
        return known
    return list(max(weights, key=lambda w: int(w["count"]))["shape"]) if weights else None
