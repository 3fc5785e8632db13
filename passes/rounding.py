"""How much rounding alone may change outputs: the tolerance of exact conversions and of compiled code.

Most models stay within TOLERANCE. Some amplify rounding errors; what one unit in the last place of the inputs
does to onnxruntime's own outputs (of the weights, where no input is a float) shows how much, and ROUNDINGS
times that is allowed. Where a model rounds to
integers, one bit becomes a whole step: two steps of an output's own scale are allowed, and twice what some
inner steps do to it (`quantized/steps.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gossamer.runtime.comparing import tensor_error

if TYPE_CHECKING:
    import onnx_ir as ir

    from .reference import Runnable

__all__ = ["ROUNDINGS", "TOLERANCE", "rounding_limits", "sensitivity"]

TOLERANCE = 1e-4
"""Of each output's spread."""
ROUNDINGS = 8
"""As often as inputs, values between layers are rounded, at least."""
Array = npt.NDArray[Any]


def rounding_limits(model: Runnable, feeds: Mapping[str, Array], expected: Sequence[Array]) -> list[float]:
    """For each output of `model`: how far, in spreads, results may be from `expected` by rounding alone."""
    from .quantized.steps import step_effects

    amplified = sensitivity(model, feeds, expected)
    steps = step_effects(model, feeds)
    return [max(TOLERANCE, ROUNDINGS * a, step) for a, step in zip(amplified, steps, strict=True)]


def sensitivity(
    model: Runnable, feeds: Mapping[str, Array], expected: Sequence[Array], runs: int = 3
) -> list[float]:
    """For each output of `model`: the largest change, in spreads, in `runs` runs whose inputs differ by one
    unit in the last place from `feeds`, which give `expected`. 0 where an output is not finite.

    Integers have no last place: where all inputs are such, the weights differ."""
    from .reference import run_onnx  # onnxruntime, which the constants here do not need

    largest = [0.0] * len(expected)
    has_floats = any(array.dtype.kind == "f" for array in feeds.values())
    for seed in range(runs):
        changed = model if has_floats else _nudged_weights(model, seed)
        outputs = run_onnx(changed, _nudged(feeds, seed))
        for i, (before, after) in enumerate(zip(expected, outputs, strict=True)):
            if before.dtype.kind not in "OUS":
                largest[i] = max(largest[i], tensor_error(before, after).relative)
    return [value if np.isfinite(value) else 0.0 for value in largest]


def _nudged(feeds: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """Every float moved to one of its two neighbours, at random."""
    generator = np.random.default_rng(seed)
    nudged = {}
    for name, array in feeds.items():
        nudged[name] = array
        if array.dtype.kind == "f":
            towards = np.where(generator.random(array.shape) < 0.5, -np.inf, np.inf).astype(array.dtype)
            nudged[name] = np.nextafter(array, towards)
    return nudged


def _nudged_weights(model: Runnable, seed: int) -> ir.Model:
    """A copy of the model whose float initializers of several elements are nudged."""
    import onnx_ir as ir

    from .loading import load_model

    copy = load_model(model).clone()
    for number, value in enumerate(copy.graph.initializers.values()):
        array = None if value.const_value is None else value.const_value.numpy()
        if array is not None and array.dtype == np.float32 and array.size > 1:
            nudged = _nudged({"": array}, seed + number)[""]
            value.const_value = ir.tensor(nudged, name=value.name)
    return copy
