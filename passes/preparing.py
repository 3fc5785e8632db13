"""The front of the compiler: a model whose shapes are known and which holds nothing that is not needed."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from gossamer.kernels.dims import BOUNDS
from gossamer.runtime.errors import ModelError

from .base import node_label
from .input_shapes import InputShapes, apply_input_shapes, require_ranks, size_bounds
from .recipe import load_recipe
from .running import run_passes
from .shapes import check_sizes, contradiction, infer_shapes, static_shape

__all__ = ["prepare"]

_FOLD_MORE = "fold-constants.limit_bytes=16777216"
"""A file should not grow by what it can compute; a compiled model computes it at each run."""
_AFTER_EXPANSION = ("lift-constants", "fold-constants", "remove-identities", "remove-unused", "fuse-affine")


def prepare(model: ir.Model, input_shapes: InputShapes | None = None) -> ir.Model:
    """A copy of `model` for the compiler; `model` itself stays as it is.

    Ensured: one opset; every input has a rank; types and shapes are filled in wherever ONNX can infer them;
    constants are initializers of the graph; functions are inlined but for calls of `gossamer` formats, whose
    inputs are initializers; operators without a kernel are expanded to their definition, where ONNX gives
    one; batch norms and pads are folded; nothing is unused; node names are unique. Dimensions without a size
    keep their names; `graph.meta` tells their bounds. Raises OptionError for an input without a shape,
    ModelError where the given shapes do not fit the graph.
    """
    prepared = model.clone()
    changed = apply_input_shapes(prepared, input_shapes or {})
    require_ranks(prepared)
    recipe = load_recipe("default").with_settings([_FOLD_MORE])
    run_passes(prepared, recipe)
    infer_shapes(prepared)
    check_sizes(prepared)
    expanded = run_passes(prepared, replace(recipe, passes=(("widen-floats", {}), ("expand-operators", {}))))
    if any(outcome.changed for outcome in expanded):
        again = tuple(step for step in recipe.passes if step[0] in _AFTER_EXPANSION)
        run_passes(prepared, replace(recipe, passes=again))
        infer_shapes(prepared)
    if changed:
        _check_unknown(prepared)
    prepared.graph.meta[BOUNDS] = size_bounds(input_shapes or {})
    return prepared


def _check_unknown(model: ir.Model) -> None:
    """Where shapes stay unknown, raise ModelError if those that were given contradict the graph."""
    unknown = [v for n in model.graph for v in n.outputs if v.name and static_shape(v) is None]
    reason = contradiction(model) if unknown else ""
    if reason:
        producer = unknown[0].producer()
        raise ModelError(
            f"the shapes do not fit: {reason}", where=node_label(producer) if producer is not None else None
        )
