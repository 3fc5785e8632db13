"""One line of the report for each layer that got a kernel of its own."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from ..cpu.kernel import Kernel
from ..cpu.tensor import Tensor
from ..dims import is_fixed
from ..program import LayerInfo
from .choice import Choice
from .fusion import Epilogue
from .state import Lowering

__all__ = ["report_layer"]


def report_layer(
    state: Lowering,
    node: ir.Node,
    weights: np.ndarray,
    out: Tensor,
    choice: Choice,
    epilogue: Epilogue | None,
) -> None:
    """Notes kernel, tile, work, sparsity and bytes of a layer with weights (outputs first, or (K, N)).

    A weight that the model stores in a format, but the kernel does not read so, was decoded when compiled.
    """
    fused = tuple(n.name or n.op_type for n in epilogue.nodes) if epilogue else ()
    kept = 4 * weights.size * choice.kept
    stored = choice.stored_bytes or kept + (kept / choice.rows if choice.rows else 0)
    outputs = weights.shape[0] if node.op_type.startswith("Conv") else weights.shape[-1]
    count = prod(out.shape) if is_fixed(*out.shape) else 0  # not known when the model is compiled
    macs = count * (weights.size // max(1, outputs))
    if (kernel := _writer(state, out)) is not None:
        kernel.macs, kernel.tile_name = round(macs * choice.kept), choice.tile
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    decoded = weight in state.encoded and not choice.format and not choice.rows
    state.layers.append(
        LayerInfo(
            name=node.name or "",
            operator=node.op_type,
            kernel=choice.kernel,
            shape=tuple(n if isinstance(n, int) else str(n) for n in out.shape),
            format=choice.format or (f"block-sparse {choice.rows}x1" if choice.rows else "dense"),
            sparsity=float(1 - np.count_nonzero(weights) / max(1, weights.size)),
            bits_per_weight=8 * stored / max(1, weights.size),
            weight_bytes=int(stored),
            macs=macs,
            tile=choice.tile,
            reason=choice.reason + ("; decoded when compiled" if decoded else ""),
            fused=fused,
        )
    )


def _writer(state: Lowering, out: Tensor) -> Kernel | None:
    """The kernel so far that computes `out`."""
    kernels = (step for step in reversed(state.steps) if isinstance(step, Kernel))
    return next((k for k in kernels if any(t.root is out.root for t in k.writes())), None)
