"""How far results of a quantised model may lie apart: rounding to integers makes one step of the last bit of
a sum.

Two right computations differ by less than one unit in the last place before they are rounded to integers,
and by a whole step behind it where the value lies near the middle between two. What that does to the
outputs is measured on the model itself: the scales of all QuantizeLinear, what DynamicQuantizeLinear reads,
and float inputs move by so little that few integers change, at least one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gossamer.runtime.comparing import tensor_error

from ..loading import load_model
from ..low_rank.constants import add_constant
from ..naming import name_everything
from ..recipe import load_recipe
from ..reference import Runnable, open_onnx, run_opened
from .parameters import is_dequantize, is_quantize, parameters_of
from .writing import constant_of

__all__ = ["STEPS", "step_effects"]

Array = npt.NDArray[Any]
STEPS = 2
"""Of an output's own scale, and as often the effect of inner ones."""
_NUDGES = (2.0**-16, 2.0**-14, 2.0**-12, 2.0**-10)  # relative: the least of them moves 255 by 1/250 of a step
_RUNS = 3


def step_effects(model: Runnable, feeds: Mapping[str, Array]) -> list[float]:
    """For each output of `model`: what a few steps of inner integers change, twice, or two steps of its own
    scale, whichever is more, in spreads. Zeros where nothing in the model is quantised."""
    from ..running import run_passes  # which needs this module where it checks exact passes

    formed = load_model(model).clone()
    run_passes(formed, load_recipe("default"))
    count = len(formed.graph.outputs)
    integers = _show_integers(formed)
    if not integers:
        return [0.0] * count
    expected = _run(formed, feeds)
    for nudge in _NUDGES:
        runs = [_run(*_nudged(formed, feeds, nudge, seed)) for seed in range(_RUNS)]
        if any(
            not np.array_equal(a, b)
            for run in runs
            for a, b in zip(run[count:], expected[count:], strict=True)
        ):
            break
    own = [
        _own_steps(value, array) for value, array in zip(formed.graph.outputs, expected[:count], strict=False)
    ]
    return [max(own[i], *(STEPS * _change(expected[i], run[i]) for run in runs)) for i in range(count)]


def _show_integers(model: ir.Model) -> Sequence[ir.Value]:
    """All that is quantised when the model runs becomes an output, behind its own."""
    nodes = [node for node in model.graph if is_quantize(node) or node.op_type == "DynamicQuantizeLinear"]
    shown = [node.outputs[0] for node in nodes if not node.outputs[0].is_graph_output()]
    model.graph.outputs.extend(shown)
    return [node.outputs[0] for node in nodes]


def _run(model: ir.Model, feeds: Mapping[str, Array]) -> list[Array]:
    with open_onnx(model) as session:
        return run_opened(session, feeds)


def _nudged(
    model: ir.Model, feeds: Mapping[str, Array], nudge: float, seed: int
) -> tuple[ir.Model, dict[str, Array]]:
    """Scales of QuantizeLinear, what DynamicQuantizeLinear reads, and floats of the feeds, moved at random by
    at most `nudge` of themselves."""
    generator = np.random.default_rng(seed)

    def moved(array: Array) -> Array:
        return np.asarray(array * (1 + nudge * generator.uniform(-1, 1, array.shape)), array.dtype)

    clone = model.clone()
    for node in clone.graph:
        scale = constant_of(node.inputs[1]) if is_quantize(node) else None
        if scale is not None:
            node.replace_input_with(1, add_constant(clone.graph, f"{node.name}_nudged", moved(scale)))
        elif node.op_type == "DynamicQuantizeLinear":
            _scale_features(clone, node, moved)
    name_everything(clone)
    return clone, {name: moved(a) if a.dtype.kind == "f" else a for name, a in feeds.items()}


def _scale_features(model: ir.Model, node: ir.Node, moved: Callable[[Array], Array]) -> None:
    """Values that are quantised by their own extremes: each index of the last axis by a factor of its own."""
    value = node.inputs[0]
    last = value.shape[-1] if value is not None and value.shape else None
    factors = moved(np.ones(last if isinstance(last, int) else 1, np.float32))
    constant = add_constant(model.graph, f"{node.name}_factors", factors)
    product = ir.node("Mul", [value, constant])
    node.prepend(product)
    node.replace_input_with(0, product.outputs[0])


def _own_steps(value: ir.Value, array: Array) -> float:
    """Two steps of an output that is an integer, or was one, in spreads."""
    node = value.producer()
    given = parameters_of(node)
    scale = None if given is None else constant_of(given.scale)
    if is_quantize(node):
        step = 1.0
    elif is_dequantize(node) and scale is not None and scale.size:
        step = float(np.abs(scale).max())
    else:
        return 0.0
    return STEPS * step / tensor_error(array, array).spread


def _change(before: Array, after: Array) -> float:
    found = tensor_error(before, after).relative if before.dtype.kind not in "OUS" else 0.0
    return found if np.isfinite(found) else 0.0
