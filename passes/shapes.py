"""Shape inference: what ONNX can tell of every value's type and shape."""

from __future__ import annotations

import logging
from math import prod

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass
from onnx_ir.passes.common._c_api_utils import call_onnx_api

from gossamer.kernels.limits import ELEMENT_LIMIT
from gossamer.runtime.errors import UnsupportedError

__all__ = ["check_sizes", "contradiction", "infer_shapes", "shape_text", "static_shape"]


def infer_shapes(model: ir.Model) -> None:
    """Fill in types and shapes in place; what cannot be inferred stays as it was.

    What a file declares of the results of ONNX's operators counts only where inference knows nothing.
    """
    declared = _forgotten(model)
    logger = logging.getLogger("onnx_ir.passes.common.shape_inference")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        # Data propagation takes memory by the sizes a file claims (an Add of vectors of 4e9 elements ends in
        # bad_alloc); folding constants finds what it would find.
        ShapeInferencePass(check_type=False, strict_mode=False, data_prop=False)(model)
    finally:
        logger.setLevel(level)
        for value, shape in declared.items():
            value.shape = _merged(value.shape, shape)


def _forgotten(model: ir.Model) -> dict[ir.Value, ir.Shape]:
    """The shapes of all results of ONNX's operators in the main graph, which are taken away."""
    nodes = [node for node in model.graph if node.domain in ("", "ai.onnx")]
    shapes = {value: value.shape for node in nodes for value in node.outputs if value.shape is not None}
    for value in shapes:
        value.shape = None
    return shapes


def _merged(inferred: ir.Shape | None, declared: ir.Shape) -> ir.Shape:
    """Sizes and names that inference found, and declared ones where it found none."""
    if inferred is None:
        return declared
    if len(inferred) != len(declared):
        return inferred
    return ir.Shape([new if _is_told(new) else old for new, old in zip(inferred, declared, strict=True)])


def _is_told(dim: int | ir.SymbolicDim) -> bool:
    """Whether a size is a number, or a name that is not inference's own for what it does not know."""
    return isinstance(dim, int) or (dim.value is not None and not dim.value.startswith("unk__"))


def contradiction(model: ir.Model) -> str:
    """What inference finds wrong with the shapes, in one line; empty if nothing."""
    try:
        call_onnx_api(lambda proto: onnx.shape_inference.infer_shapes(proto, False, True, False), model)
    except onnx.shape_inference.InferenceError as error:
        text = " ".join(str(error).split()).removeprefix("[ShapeInferenceError] ")
        return text if len(text) <= 300 else text[:300] + "…"
    return ""


def check_sizes(model: ir.Model) -> None:
    """Raises UnsupportedError for a value of more elements than any kernel can count."""
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    for value in values:
        shape = static_shape(value)
        if shape is not None and prod(max(1, int(size)) for size in shape) > ELEMENT_LIMIT:
            raise UnsupportedError(
                f"value {value.name!r} is too large",
                where=model.graph.name,
                expected=f"at most {ELEMENT_LIMIT} elements",
                got=list(shape),
            )


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The value's shape where each dimension is a number, else None."""
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return value.shape.numpy()


def shape_text(shape: ir.Shape | None) -> str:
    """A shape as people write it: `[batch, 3, 224, 224]`."""
    if shape is None:
        return "unknown"
    dims = [d if isinstance(d, int) else (d.value or "?") for d in shape]
    return "[" + ", ".join(str(d) for d in dims) + "]"
