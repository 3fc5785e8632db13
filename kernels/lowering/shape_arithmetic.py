"""Elementwise operators, reductions and casts of tensors of sizes."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from ..dims import Dim, UndecidedError, larger, smaller
from .attributes import flag, integer, integers
from .ratio import Ratio, floored
from .shape_values import Arguments, Known, NotKnownError, computes

Binary = Callable[[Any, Any], Any]


def _is_at_least_zero(value: Any) -> bool:
    return (value.bounds()[0] if isinstance(value, Dim) else value) >= 0


def _divided(a: Any, b: Any) -> Any:
    """Integers are divided towards zero, which is down where nothing is negative."""
    if isinstance(a, Ratio):
        return a / b
    if b == 0:
        raise NotKnownError
    if isinstance(a, int) and isinstance(b, int):
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    whole, rest = divmod(a, b)
    if rest == 0 or (_is_at_least_zero(a) and _is_at_least_zero(b)):
        return whole
    raise NotKnownError


def _compared(relation: str) -> Binary:
    def compare(a: Any, b: Any) -> bool:
        a, b = (x.numerator if isinstance(x, Ratio) and x.denominator == 1 else x for x in (a, b))
        if isinstance(a, Ratio) or isinstance(b, Ratio):
            raise NotKnownError
        if relation == "Equal":
            return _equal(a, b)
        return bool({"Less": a < b, "Greater": a > b}[relation])

    return compare


def _equal(a: Any, b: Any) -> bool:
    if a == b:
        return True
    gap = a - b
    low, high = gap.bounds() if isinstance(gap, Dim) else (gap, gap)
    if low > 0 or high < 0:
        return False
    raise UndecidedError("whether sizes are equal is known only at run time", expected=a, got=b)


def _extreme(pick: Binary) -> Binary:
    def choose(a: Any, b: Any) -> Any:
        if not isinstance(a, Ratio):
            return pick(a, b)
        if a.denominator != 1 or b.denominator != 1:
            raise NotKnownError
        return Ratio(pick(a.numerator, b.numerator))

    return choose


_BINARY: dict[str, Binary] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": _divided,
    "Max": _extreme(larger),
    "Min": _extreme(smaller),
    "Equal": _compared("Equal"),
    "Less": lambda a, b: _compared("Less")(a, b),
    "Greater": lambda a, b: _compared("Greater")(a, b),
    "LessOrEqual": lambda a, b: not _compared("Greater")(a, b),
    "GreaterOrEqual": lambda a, b: not _compared("Less")(a, b),
    "And": lambda a, b: a and b,
    "Or": lambda a, b: a or b,
}
_TRUTHS = ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "And", "Or")


@computes(*_BINARY)
def binary(arguments: Arguments) -> Known:
    """With numpy's broadcasting; Max and Min take any number of inputs."""
    function = _BINARY[arguments.node.op_type]
    first = arguments[0]
    arrays = [arguments[i].values for i in range(len(arguments.inputs))]
    values = reduce(lambda a, b: _mapped(function, a, b), arrays)
    return Known("bool" if arguments.node.op_type in _TRUTHS else first.dtype, values)


def _mapped(function: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    whole = np.broadcast_arrays(*arrays)
    values = np.empty(whole[0].shape, object)
    for index in np.ndindex(values.shape):
        values[index] = function(*(array[index] for array in whole))
    return values


@computes("Mod")
def modulo(arguments: Arguments) -> Known:
    """Floored, as numpy's; `fmod` differs for negative numbers only."""
    a, b = arguments[0], arguments[1]
    if a.is_float or flag(arguments.node, "fmod"):
        raise NotKnownError
    return Known(a.dtype, _mapped(lambda x, y: x % y, a.values, b.values))


@computes("Neg")
def negative(arguments: Arguments) -> Known:
    """0 - x."""
    source = arguments[0]
    zero = Ratio(0) if source.is_float else 0
    return Known(source.dtype, _mapped(lambda x: zero - x, source.values))


@computes("Not")
def inverse(arguments: Arguments) -> Known:
    """The other truth value."""
    return Known("bool", _mapped(lambda x: not x, arguments[0].values))


@computes("Abs")
def absolute(arguments: Arguments) -> Known:
    """Of what is not negative for certain."""
    source = arguments[0]
    tops = [x.numerator if isinstance(x, Ratio) else x for x in source.values.reshape(-1)]
    if not all(_is_at_least_zero(x) for x in tops):
        raise NotKnownError
    return source


@computes("Floor", "Ceil")
def whole(arguments: Arguments) -> Known:
    """The next whole number."""
    up = arguments.node.op_type == "Ceil"
    values = _mapped(lambda x: Ratio(floored(x, up=up)), arguments[0].values)
    return Known(arguments[0].dtype, values)


@computes("Where")
def chosen(arguments: Arguments) -> Known:
    """By conditions that are known; either where both are the same."""
    condition, a, b = (arguments[i] for i in range(3))
    values = _mapped(lambda c, x, y: x if c else y, condition.values, a.values, b.values)
    return Known(a.dtype, values)


@computes("Cast")
def cast(arguments: Arguments) -> Known:
    """Between integers, truth values and floats; floats are cut towards zero."""
    source = arguments[0]
    dtype = np.dtype(arguments.node.outputs[0].dtype.numpy()).name if arguments.node.outputs[0].dtype else ""
    if dtype in ("float32", "float64"):
        if source.is_float:
            return Known(dtype, source.values)
        return Known(dtype, _mapped(lambda x: Ratio(int(x) if isinstance(x, bool) else x), source.values))
    if dtype in ("int32", "int64"):
        return Known(dtype, _mapped(_as_integer, source.values))
    if dtype == "bool" and not source.is_float:
        return Known(dtype, _mapped(lambda x: not _equal(x, 0), source.values))
    raise NotKnownError


def _as_integer(value: Any) -> Any:
    if not isinstance(value, Ratio):
        return int(value) if isinstance(value, bool) else value
    if value.denominator != 1 and not _is_at_least_zero(value.numerator):
        raise NotKnownError
    return floored(value)


_FOLDS: dict[str, Binary] = {
    "ReduceProd": _BINARY["Mul"],
    "ReduceSum": _BINARY["Add"],
    "ReduceMax": _BINARY["Max"],
    "ReduceMin": _BINARY["Min"],
}


@computes(*_FOLDS)
def folded(arguments: Arguments) -> Known:
    """Over all axes or some, by attribute or input."""
    source, node = arguments[0], arguments.node
    given = arguments.numbers(1) or list(integers(node, "axes", ()))
    rank = source.values.ndim
    if not given and flag(node, "noop_with_empty_axes"):
        return source
    axes = sorted({a % rank for a in given}) if given else list(range(rank))
    values = source.values
    for axis in axes:
        if values.shape[axis] == 0:
            raise NotKnownError
        parts = [np.take(values, [i], axis) for i in range(values.shape[axis])]
        values = reduce(lambda a, b: _mapped(_FOLDS[node.op_type], a, b), parts)
    if not integer(node, "keepdims", 1):
        values = values.reshape([n for a, n in enumerate(values.shape) if a not in axes])
    return Known(source.dtype, values)
