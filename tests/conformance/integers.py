"""What the suites of integer operators draw: whole ranges of types, weights with zero points, scales."""

from __future__ import annotations

import numpy as np

from gossamer.kernels.quantization import integer_range

from .bounded import Array

__all__ = ["WEIGHTS", "integer_weights", "random_integers"]

WEIGHTS = ("int8", "int8 without -128", "int8 with zero points", "uint8", "uint8 with zero points")


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
    """Weights of a kind of WEIGHTS and their zero point: one, or as many as `zeros` along `axis`."""
    dtype = kind.split()[0]
    w = random_integers(dtype, seed, *shape)
    if kind == "int8 without -128":
        w = np.maximum(w, np.int8(-127))
    if not kind.endswith("zero points"):
        return w, None
    return w, random_integers(dtype, seed + 1, *([zeros] if zeros else []))
