"""A Transpose of a Transpose is one, or none, once no DequantizeLinear is between them."""

from __future__ import annotations

import onnx_ir as ir

from ..canonical import looks_at
from ..writing import Writer, drop_unread

__all__ = ["join_transposes"]


@looks_at("Transpose")
def join_transposes(node: ir.Node) -> str:
    """Their permutations, one after the other."""
    before = node.inputs[0].producer() if node.inputs[0] is not None else None
    if before is None or before.op_type != "Transpose" or before.domain or before.inputs[0] is None:
        return ""
    source = before.inputs[0]
    rank = len(source.shape) if source.shape is not None else 0
    first, second = _order(before, rank), _order(node, rank)
    order = [first[axis] for axis in second]
    writer = Writer(node)
    if order == list(range(rank)):
        writer.give(source)
    else:
        turned = writer.add("Transpose", [source], {"perm": order}, name=node.name or "")
        turned.shape, turned.type = node.outputs[0].shape, source.type
        writer.give(turned)
    drop_unread(before)
    return f"joined with Transpose {before.name} before it"


def _order(node: ir.Node, rank: int) -> list[int]:
    given = node.attributes.get("perm")
    return list(given.as_ints()) if given is not None else list(range(rank))[::-1]
