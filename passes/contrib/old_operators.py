"""Operators of onnxruntime that old exporters write into ONNX's own domain, which does not know them."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from .registry import EXPERIMENTAL, expansion_of

__all__ = ["is_old", "without_old"]

_LAYER_NORM_OPSET = 17
"""Before it LayerNormalization in ONNX's own domain is onnxruntime's."""


def is_old(operator: str, opset: int) -> bool:
    """Whether an operator of ONNX's own domain is onnxruntime's, in a model of this opset."""
    if operator == "LayerNormalization" and opset >= _LAYER_NORM_OPSET:
        return False
    return expansion_of(EXPERIMENTAL, operator) is not None


def without_old(proto: onnx.ModelProto) -> None:
    """Put them into a domain of their own, in place, so that ONNX's checks do not stop at them."""
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)
    found = [n for n in _nodes(proto.graph) if n.domain in ("", "ai.onnx") and is_old(n.op_type, opset)]
    for node in found:
        node.domain = EXPERIMENTAL
    if found and not any(o.domain == EXPERIMENTAL for o in proto.opset_import):
        proto.opset_import.add(domain=EXPERIMENTAL, version=1)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)
