"""Several QuantizeLinear of one value with equal parameters become one, as NNCF and OpenVINO write them."""

from __future__ import annotations

import onnx_ir as ir

from ..canonical import looks_at
from ..parameters import is_quantize, parameters_of

__all__ = ["merge_equal_quantizers"]


@looks_at("QuantizeLinear")
def merge_equal_quantizers(node: ir.Node) -> str:
    """Later ones vanish, but for those that an output of the graph needs."""
    mine, source = parameters_of(node), node.inputs[0]
    if mine is None or source is None:
        return ""
    merged = 0
    for other in dict.fromkeys(use.node for use in source.uses()):
        theirs = parameters_of(other) if is_quantize(other) and other.graph is node.graph else None
        if other is node or theirs is None or not mine.equals(theirs) or other.outputs[0].is_graph_output():
            continue
        if not _precedes(node, other):
            continue
        other.outputs[0].replace_all_uses_with(node.outputs[0])
        assert node.graph is not None
        node.graph.remove(other, safe=True)
        merged += 1
    return f"{merged} equal ones of the same value read it now" if merged else ""


def _precedes(first: ir.Node, second: ir.Node) -> bool:
    assert first.graph is not None
    return next(node for node in first.graph if node in (first, second)) is first
