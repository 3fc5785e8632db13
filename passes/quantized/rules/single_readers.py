"""Every reader of a DequantizeLinear gets its own, so that each can take the integers instead."""

from __future__ import annotations

import onnx_ir as ir

from ..canonical import looks_at

__all__ = ["give_each_reader_its_own"]


@looks_at("DequantizeLinear")
def give_each_reader_its_own(node: ir.Node) -> str:
    """The first reader keeps the node, unless an output of the graph does."""
    value = node.outputs[0]
    readers = list(dict.fromkeys(use.node for use in value.uses() if use.node.graph is node.graph))
    kept = 0 if value.is_graph_output() or len(readers) < len({use.node for use in value.uses()}) else 1
    others = readers[kept:]
    for reader in others:
        copy = ir.Node("", node.op_type, list(node.inputs), dict(node.attributes), num_outputs=1)
        copy.name = f"{node.name}_for_{reader.name}"
        copy.outputs[0].name = f"{value.name}_for_{reader.name}"
        copy.outputs[0].type, copy.outputs[0].shape = value.type, value.shape
        assert node.graph is not None
        node.graph.insert_after(node, copy)
        for index, given in enumerate(reader.inputs):
            if given is value:
                reader.replace_input_with(index, copy.outputs[0])
    return f"copied for {len(others)} more readers" if others else ""
