"""What the suites of integer operators draw: whole ranges of types, weights with zero points, scales."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from gossamer.kernels.quantization import integer_range

from .bounded import Array
from .drawing import add_epilogue
from .graphs import Case, random_array

__all__ = [
    "ACTIVATIONS",
    "EPILOGUES",
    "WEIGHTS",
    "ZEROS",
    "activation",
    "add_integer_epilogue",
    "floats",
    "integer_epilogues",
    "integer_weights",
    "quantised",
    "random_integers",
    "stored_bias",
    "stored_weights",
    "zero_points",
]

ACTIVATIONS = ("int8", "uint8")
WEIGHTS = ("int8", "int8 without -128", "int8 with zero points", "uint8", "uint8 with zero points")
ZEROS = ("middle", "lowest", "highest", "any")
EPILOGUES = (
    "",
    "relu",
    "clip",
    "sigmoid",
    "silu",
    "silu in steps",
    "hard-swish",
    "gelu",
    "residual",
    "residual-relu",
    "scale",
    "steps",
)

zero_points = st.sampled_from(ZEROS)
integer_epilogues = st.sampled_from(EPILOGUES)


def random_integers(dtype: str, seed: int, *shape: int) -> Array:
    """All values of a type, its extremes more often than others; the same for the same seed and shape."""
    rng = np.random.default_rng((seed, *shape))
    low, high = integer_range(dtype)
    drawn = rng.integers(low, high + 1, shape)
    ends = rng.choice([low, high], shape)
    return np.where(rng.random(shape) < 0.1, ends, drawn).astype(dtype)


def integer_weights(
    kind: str, seed: int, shape: tuple[int, ...], zeros: int, axis: int
) -> tuple[Array, Array | None]:
    """Weights of a kind of WEIGHTS and their zero point: one, or as many as `zeros`."""
    dtype = kind.split()[0]
    w = random_integers(dtype, seed, *shape)
    if kind == "int8 without -128":
        w = np.maximum(w, np.int8(-127))
    if not kind.endswith("zero points"):
        return w, None
    return w, random_integers(dtype, seed + 1, *([zeros] if zeros else []))


def zero_point(where: str, dtype: str, seed: int) -> Array:
    """A zero point at a place of ZEROS."""
    low, high = integer_range(dtype)
    places = {"middle": (low + high + 1) // 2, "lowest": low, "highest": high}
    return np.asarray(places.get(where, seed % (high - low + 1) + low), dtype)


def _scalar(case: Case, value: float) -> str:
    return case.weight(np.array(value, np.float32))


def activation(case: Case, dtype: str, zeros: str, seed: int, *shape: int) -> str:
    """Integers that are fed, as floats: some units large."""
    scale = _scalar(case, 0.01 + seed % 7 / 100)
    zero = case.weight(zero_point(zeros, dtype, seed))
    return case.add("DequantizeLinear", case.feed(random_integers(dtype, seed, *shape)), scale, zero)


def stored_weights(
    case: Case, kind: str, seed: int, shape: tuple[int, ...], axis: int, per_channel: bool
) -> str:
    """Constant integers as floats, with a scale for each index of `axis` or one."""
    count = shape[axis] if per_channel else 0
    w, zeros = integer_weights(kind, seed, shape, count, axis)
    scale = abs(random_array(seed + 3, *([count] if count else []))) / np.float32(50) + np.float32(0.002)
    parts = [case.weight(w), case.weight(np.asarray(scale, np.float32))]
    parts += [] if zeros is None else [case.weight(zeros)]
    return case.add("DequantizeLinear", *parts, axis=axis)


def stored_bias(case: Case, x: str, w: str, channels: int, seed: int) -> str:
    """int32 whose scale is the product of those of `x` and `w`, as exporters write it."""
    scales = [np.float32(case.weights[_scale_of(case, value)]) for value in (x, w)]
    scale = (
        np.broadcast_to(scales[0] * scales[1], (channels,)) if np.ndim(scales[1]) else scales[0] * scales[1]
    )
    whole = np.random.default_rng((seed, channels)).integers(-20000, 20000, channels).astype(np.int32)
    return case.add("DequantizeLinear", case.weight(whole), case.weight(np.array(scale, np.float32)), axis=0)


def _scale_of(case: Case, value: str) -> str:
    return next(inputs[1] for _, inputs, outputs, _ in case.nodes if value in outputs)


def quantised(case: Case, value: str, dtype: str, seed: int, tight: float = 1.0) -> str:
    """`value` in integers, whose range it fills; `tight` < 1 saturates what lies outside."""
    found = case.values[value].value
    low, high = min(0.0, float(found.min())) * tight, max(0.0, float(found.max())) * tight
    least, most = integer_range(dtype)
    scale = np.float32(max(high - low, 1e-3) / (most - least))
    zero = np.clip(np.rint(least - low / scale), least, most).astype(dtype)
    return case.add("QuantizeLinear", value, case.weight(np.asarray(scale)), case.weight(np.asarray(zero)))


def floats(case: Case, integers: str) -> str:
    """What `quantised` gave, as floats again."""
    scale, zero = next(inputs[1:] for _, inputs, outputs, _ in case.nodes if integers in outputs)
    return case.add("DequantizeLinear", integers, scale, zero)


def add_integer_epilogue(
    case: Case, value: str, kind: str, channel: tuple[int, ...], seed: int, dtype: str = "int8"
) -> str:
    """As `add_epilogue`, what is added from integers too, with roundings to integers in between."""
    if kind == "steps":
        return case.add("Relu", floats(case, quantised(case, value, dtype, seed)))
    if kind == "silu in steps":
        x = floats(case, quantised(case, value, dtype, seed))
        gate = floats(case, quantised(case, case.add("Sigmoid", x), dtype, seed))
        return case.add("Mul", x, gate)
    if kind.startswith("residual"):
        other = activation(case, dtype, ZEROS[seed % 4], seed + 1, *case.values[value].shape)
        total = case.add("Add", value, other)
        return case.add("Relu", total) if kind.endswith("relu") else total
    return add_epilogue(case, value, kind, channel, seed)
