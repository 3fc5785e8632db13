"""Whether a node needs kernels whose sizes are known only at run time."""

from __future__ import annotations

import onnx_ir as ir

from ...dims import is_fixed
from ..state import Lowering

__all__ = ["is_any_size"]


def is_any_size(state: Lowering, node: ir.Node) -> bool:
    """Whether a size of an input is no number. An input that waits for another node has none yet."""
    known = [state.values[v] for v in node.inputs if v is not None and v in state.values]
    return any(not is_fixed(*value.shape) for value in known)
