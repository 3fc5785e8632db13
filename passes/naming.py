"""Every node has a unique name, which messages, reports and recipes use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass

__all__ = ["functions_aside", "keeping_names", "name_everything"]


def name_everything(model: ir.Model) -> None:
    """Give nodes without a name `Operator_index`, and make names of nodes and values unique."""
    taken = {node.name for node in model.graph.all_nodes()}
    for index, node in enumerate(model.graph.all_nodes()):
        if not node.name:
            name = f"{node.op_type}_{index}"
            while name in taken:
                name += "_"
            node.name = name
            taken.add(name)
    with functions_aside(model):
        NameFixPass()(model)


@contextmanager
def keeping_names(model: ir.Model) -> Iterator[dict[str | None, str | None]]:
    """Within the block nodes are replaced by others; each replacement gets the name of the node that made
    its output.

    The mapping that is yielded, from the first output's name to the node's, may be changed.
    """
    names = {node.outputs[0].name: node.name for node in model.graph if node.outputs}
    yield names
    for node in model.graph:
        if node.outputs and (old := names.get(node.outputs[0].name)):
            node.name = old


@contextmanager
def functions_aside(model: ir.Model) -> Iterator[None]:
    """Within the block the model has no functions, so that no library pass rewrites a format's body."""
    functions = dict(model.functions)
    model.functions.clear()
    try:
        yield
    finally:
        for key, function in functions.items():
            model.functions.setdefault(key, function)
