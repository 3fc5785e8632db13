"""Elementwise operators: they stay lazy and melt into their consumer."""

from __future__ import annotations

import onnx_ir as ir

from ...cpu.arithmetic import FUNCTIONS
from ..elementwise import describe_cast, describe_elementwise
from ..registry import lowers
from ..state import Lowering


@lowers("CastLike", any_type=True)
def lower_cast_like(state: Lowering, node: ir.Node) -> None:
    """Cast to the type of another value; what that is does not matter."""
    function, inputs, dtype, options = describe_cast(node)
    state.define(node.outputs[0], state.elementwise(function, [state.lazy(inputs[0])], dtype, **options))


@lowers(*FUNCTIONS, any_type=True)
def lower_elementwise(state: Lowering, node: ir.Node) -> None:
    """Any operator of `kernels/cpu/arithmetic.py`."""
    function, inputs, dtype, options = describe_elementwise(state, node)
    args = [state.lazy(v) for v in inputs]
    state.define(node.outputs[0], state.elementwise(function, args, dtype, **options))
