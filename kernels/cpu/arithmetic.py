"""ONNX's elementwise operators as expressions, each on scalars or vectors alike.

The name is the operator's; `options` are its attributes. See https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from . import vectormath as vm
from .builder import Builder, constant, lanes_of, scalar_type, vector_type
from .element_types import computed_type, narrowed
from .inverse_functions import INVERSE_FUNCTIONS

__all__ = ["FUNCTIONS", "Function", "cast", "maximum", "minimum"]

Options = dict[str, Any]
Emit = Callable[[Builder, list[Any], Options, str], Any]


@dataclass(frozen=True)
class Function:
    """How to compute an operator, and its rough cost in vector operations."""

    emit: Emit
    cost: int = 1


def _like(value: float | int, x: Any) -> Any:
    return constant(value, scalar_type(x), lanes_of(x))


def _is_float(x: Any) -> bool:
    return scalar_type(x).startswith("float")


def _match(values: list[Any]) -> list[Any]:
    lanes = max(lanes_of(v) for v in values)
    return [tir.Broadcast(v, lanes) if lanes_of(v) < lanes else v for v in values]


def maximum(a: Any, b: Any) -> Any:
    """The larger; a NaN in `a` is kept (x86's and wasm's pmax when operands are ordered so)."""
    a, b = _match([a, b])
    return tir.Select(a < b, b, a)


def minimum(a: Any, b: Any) -> Any:
    """The smaller; a NaN in `a` is kept."""
    a, b = _match([a, b])
    return tir.Select(b < a, b, a)


def cast(x: Any, dtype: str) -> Any:
    """Conversion as ONNX's Cast: floats truncate to integers, anything non-zero is true."""
    source, dtype = scalar_type(x), computed_type(dtype)
    if source == dtype:
        return x
    lanes = lanes_of(x)
    if dtype == "bool":
        return tir.Not(tir.EQ(x, _like(0, x)))  # NE would be false for NaN
    if source == "bool":
        return tir.Select(x, constant(1, dtype, lanes), constant(0, dtype, lanes))
    return tir.Cast(vector_type(dtype, lanes), x)


def _binary(operation: Callable[[Any, Any], Any], cost: int = 1) -> Function:
    return Function(lambda b, v, o, d: operation(*_match([b.hold(x) for x in v])), cost)


def _unary(operation: Callable[[Any], Any], cost: int) -> Function:
    return Function(lambda b, v, o, d: operation(b.hold(v[0])), cost)


def _polynomial(operation: Callable[[Builder, Any], Any], cost: int) -> Function:
    return Function(lambda b, v, o, d: operation(b, b.hold(v[0])), cost)


def _fold(operation: Callable[[Any, Any], Any]) -> Function:
    def emit(b: Builder, values: list[Any], options: Options, dtype: str) -> Any:
        result = values[0]
        for value in values[1:]:
            result = b.hold(operation(*_match([result, value])))
        return result

    return Function(emit)


def _divide(a: Any, b: Any) -> Any:
    """Of integers: 0 where the divisor is 0; the least one over -1 wraps around. Neither traps."""
    if _is_float(a):
        return tir.Div(a, b)
    quotient = tir.truncdiv(a, _safe_divisor(b))
    if not _is_signed(a):
        return tir.Select(tir.EQ(b, _like(0, b)), _like(0, a), quotient)
    quotient = tir.Select(tir.EQ(b, _like(-1, b)), _like(0, a) - a, quotient)
    return tir.Select(tir.EQ(b, _like(0, b)), _like(0, a), quotient)


def _safe_divisor(b: Any) -> Any:
    """1 instead of 0, and of -1, whose quotient may not fit."""
    unsafe = tir.EQ(b, _like(0, b))
    if _is_signed(b):
        unsafe = tir.Or(unsafe, tir.EQ(b, _like(-1, b)))
    return tir.Select(unsafe, _like(1, b), b)


def _is_signed(x: Any) -> bool:
    return not scalar_type(x).startswith("u")


def _mod(b_: Builder, values: list[Any], options: Options, dtype: str) -> Any:
    a, b = _match(values)
    if _is_float(a):
        rest = b_.hold(_float_rest(b_, b_.hold(a), b_.hold(b)))
    else:
        rest = b_.hold(tir.truncmod(a, _safe_divisor(b)))
    if options.get("fmod") or not _is_signed(a):
        return rest
    other_sign = tir.NE(tir.Select(rest < _like(0, a), _like(1, a), _like(0, a)),
                        tir.Select(b < _like(0, a), _like(1, a), _like(0, a)))  # fmt: skip
    return tir.Select(tir.And(tir.NE(rest, _like(0, a)), other_sign), rest + b, rest)


def _float_rest(b_: Builder, a: Any, b: Any) -> Any:
    """As C's fmod: an infinite divisor leaves `a`."""
    endless = _like(float("inf"), a)
    infinite = tir.And(tir.EQ(tir.abs(b), endless), tir.abs(a) < endless)
    return tir.Select(infinite, a, a - tir.trunc(a / b) * b)


def _negative(x: Any) -> Any:
    return _like(0, x) - x


def _absolute(x: Any) -> Any:
    return x if scalar_type(x).startswith("u") else tir.Select(x < _like(0, x), _negative(x), x)


def _sign(x: Any) -> Any:
    one = tir.Select(x > _like(0, x), _like(1, x), _like(0, x))
    return one if scalar_type(x).startswith("u") else tir.Select(x < _like(0, x), _like(-1, x), one)


def _relu(x: Any) -> Any:
    return maximum(x, _like(0, x))


def _clip(b: Builder, values: list[Any], options: Options, dtype: str) -> Any:
    x = b.hold(values[0])
    if options.get("min") is not None:
        x = maximum(x, _like(options["min"], x))
    if options.get("max") is not None:
        x = minimum(x, _like(options["max"], x))
    return x


def _leaky(b: Builder, values: list[Any], options: Options, dtype: str) -> Any:
    x = b.hold(values[0])
    return tir.Select(x < _like(0, x), x * _like(options.get("alpha", 0.01), x), x)


def _prelu(a: Any, slope: Any) -> Any:
    return tir.Select(a < _like(0, a), a * slope, a)


def _hard_sigmoid(b: Builder, values: list[Any], options: Options, dtype: str) -> Any:
    x = b.hold(values[0])
    y = x * _like(options.get("alpha", 0.2), x) + _like(options.get("beta", 0.5), x)
    return minimum(maximum(y, _like(0, x)), _like(1, x))


def _hard_swish(x: Any) -> Any:
    return x * minimum(maximum(x * _like(1 / 6, x) + _like(0.5, x), _like(0, x)), _like(1, x))


def _elu(b: Builder, values: list[Any], options: Options, dtype: str) -> Any:
    x = b.hold(values[0])
    return tir.Select(x < _like(0, x), (vm.exp(b, x) - _like(1, x)) * _like(options.get("alpha", 1.0), x), x)


def _selu(b: Builder, values: list[Any], options: Options, dtype: str) -> Any:
    x = b.hold(values[0])
    alpha, gamma = options.get("alpha", 1.6732632), options.get("gamma", 1.0507010)
    return _like(gamma, x) * tir.Select(x > _like(0, x), x, (vm.exp(b, x) - _like(1, x)) * _like(alpha, x))


def _gelu(b: Builder, values: list[Any], options: Options, dtype: str) -> Any:
    x = b.hold(values[0])
    half = _like(0.5, x) * x
    if options.get("approximate") == "tanh":
        inner = _like(0.7978845608028654, x) * (x + _like(0.044715, x) * x * x * x)
        return half * (_like(1, x) + vm.tanh(b, b.hold(inner)))
    return half * (_like(1, x) + vm.erf(b, b.hold(x * _like(0.7071067811865476, x))))


def _power(b: Builder, values: list[Any], options: Options, dtype: str) -> Any:
    exponent = options.get("exponent")
    x = b.hold(values[0])
    special = {1.0: lambda: x, 2.0: lambda: x * x, 3.0: lambda: x * x * x, 0.5: lambda: tir.sqrt(x),
               -1.0: lambda: _like(1, x) / x, -0.5: lambda: _like(1, x) / tir.sqrt(x)}  # fmt: skip
    if exponent in special and _is_float(x):
        return special[exponent]()
    if exponent in (1.0, 2.0, 3.0):
        return special[exponent]()
    kind = scalar_type(x) if _is_float(x) else "float64"
    y = constant(exponent, kind) if exponent is not None else cast(values[1], kind)
    base, y = _match([cast(x, kind), y])
    result = vm.power(b, b.hold(base), b.hold(y))
    if _is_float(x):
        return result
    result = b.hold(result)
    whole = b.hold(tir.nearbyint(result))  # a power that is whole may come out a little less
    near = tir.abs(whole - result) < _like(1e-9, whole) * tir.abs(whole)
    return cast(tir.Select(near, whole, result), scalar_type(x))


def _celu(b: Builder, values: list[Any], options: Options, dtype: str) -> Any:
    x, alpha = b.hold(values[0]), options.get("alpha", 1.0)
    below = _like(alpha, x) * (vm.exp(b, b.hold(x * _like(1 / alpha, x))) - _like(1, x))
    return tir.Select(x < _like(0, x), below, x)


def _mish(b: Builder, x: Any) -> Any:
    return x * vm.tanh(b, b.hold(vm.softplus(b, x)))


def _swish(b: Builder, values: list[Any], options: Options, dtype: str) -> Any:
    x, alpha = b.hold(values[0]), options.get("alpha", 1.0)
    return vm.swish(b, x) if alpha == 1.0 else x * vm.sigmoid(b, b.hold(x * _like(alpha, x)))


def _shrink(b: Builder, values: list[Any], options: Options, dtype: str) -> Any:
    x = b.hold(values[0])
    limit, bias = options.get("lambd", 0.5), _like(options.get("bias", 0.0), x)
    low = tir.Select(x < _like(-limit, x), x + bias, _like(0, x))
    return tir.Select(x > _like(limit, x), x - bias, low)


def _mean(b: Builder, values: list[Any], options: Options, dtype: str) -> Any:
    total = _fold(lambda x, y: x + y).emit(b, values, options, dtype)
    return total * _like(1 / len(values), total)


def _is_infinite(b: Builder, values: list[Any], options: Options, dtype: str) -> Any:
    x = b.hold(values[0])
    found = [
        tir.EQ(x, _like(float(sign + "inf"), x))
        for sign, name in (("-", "detect_negative"), ("", "detect_positive"))
        if options.get(name, 1)
    ]
    return tir.Or(*found) if len(found) == 2 else (found or [tir.NE(_like(0, x), _like(0, x))])[0]


def _where(b: Builder, values: list[Any], options: Options, dtype: str) -> Any:
    return tir.Select(*_match(values))


def _cast(b: Builder, values: list[Any], options: Options, dtype: str) -> Any:
    if computed_type(dtype) == dtype:
        return cast(values[0], dtype)
    return narrowed(b, values[0], dtype, options.get("saturate", True), options.get("rounding", "up"))


def _round(x: Any) -> Any:
    return tir.nearbyint(x)


def _quantize(b: Builder, values: list[Any], options: Options, dtype: str) -> Any:
    x = values[0]
    x, scale = _match([x, values[1]])
    y = tir.nearbyint(x / scale)
    if len(values) > 2:
        y = y + _match([y, cast(values[2], "float32")])[1]
    y = minimum(maximum(b.hold(y), _like(float(options["low"]), y)), _like(float(options["high"]), y))
    return cast(y, dtype)


def _dequantize(b: Builder, values: list[Any], options: Options, dtype: str) -> Any:
    x = cast(values[0], "float32")
    if len(values) > 2:
        x = x - _match([x, cast(values[2], "float32")])[1]
    return x * _match([x, values[1]])[1]


def _quantize_dequantize(b: Builder, values: list[Any], options: Options, dtype: str) -> Any:
    x = b.hold(values[0] * _like(options["inverse"], values[0]))
    x = b.hold(maximum(x, _like(options["low"], x)))
    x = b.hold(minimum(x, _like(options["high"], x))) + _like(1.5 * 2**23, x)
    return (x - _like(1.5 * 2**23 - options["shift"], x)) * _like(options["scale"], x)


def _rounded_clip(b: Builder, values: list[Any], options: Options, dtype: str) -> Any:
    x = b.hold(maximum(values[0], _like(options["low"], values[0])))
    return tir.nearbyint(minimum(x, _like(options["high"], x)))


def _weighted_sum(b: Builder, values: list[Any], options: Options, dtype: str) -> Any:
    total: Any = _like(options["constant"], cast(values[-1], "float32"))
    for value, factor in zip(reversed(values), reversed(options["factors"]), strict=True):
        x = cast(value, "float32")
        total = b.hold(b.isa.multiply_add(x, _like(factor, x), total))
    return total


def _shift(b: Builder, values: list[Any], options: Options, dtype: str) -> Any:
    operation = tir.shift_left if options["direction"] == "LEFT" else tir.shift_right
    return operation(*_match(values))


def _xor(a: Any, b: Any) -> Any:
    return tir.Or(tir.And(a, tir.Not(b)), tir.And(tir.Not(a), b))


def _compare(node: Any) -> Function:
    return _binary(lambda a, b: _as_bools(node, a, b))


def _as_bools(node: Any, a: Any, b: Any) -> Any:
    if scalar_type(a) == "bool":
        a, b = cast(a, "uint8"), cast(b, "uint8")
    return node(a, b)


def _in_double(operation: Callable[[Builder, Any], Any]) -> Function:
    def emit(b: Builder, values: list[Any], options: Options, dtype: str) -> Any:
        return cast(operation(b, b.hold(cast(values[0], "float64"))), scalar_type(values[0]))

    return Function(emit, 100)


FUNCTIONS: dict[str, Function] = {
    "Abs": _unary(_absolute, 1),
    "Add": _binary(lambda a, b: a + b),
    "And": _binary(tir.And),
    "BitShift": Function(_shift),
    "BitwiseAnd": _binary(tir.bitwise_and),
    "BitwiseNot": _unary(tir.bitwise_not, 1),
    "BitwiseOr": _binary(tir.bitwise_or),
    "BitwiseXor": _binary(tir.bitwise_xor),
    "Cast": Function(_cast),
    "Ceil": _unary(tir.ceil, 1),
    "Celu": Function(_celu, 20),
    "Clip": Function(_clip, 2),
    "Cos": _polynomial(vm.cos, 20),
    "Dequantize": Function(_dequantize, 2),  # not an operator: its rule makes the parameters broadcast
    "Div": _binary(_divide, 4),
    "Elu": Function(_elu, 20),
    "Equal": _compare(tir.EQ),
    "Erf": _polynomial(vm.erf, 25),
    "Exp": _polynomial(vm.exp, 15),
    "Floor": _unary(tir.floor, 1),
    "Gelu": Function(_gelu, 25),
    "Greater": _compare(tir.GT),
    "GreaterOrEqual": _compare(tir.GE),
    "HardSigmoid": Function(_hard_sigmoid, 4),
    "HardSwish": _unary(_hard_swish, 4),
    "IsInf": Function(_is_infinite),
    "IsNaN": _unary(lambda x: tir.Not(tir.EQ(x, x)), 1),
    "LeakyRelu": Function(_leaky, 2),
    "Less": _compare(tir.LT),
    "LessOrEqual": _compare(tir.LE),
    "Log": _polynomial(vm.log, 20),
    "Max": _fold(maximum),
    "Mean": Function(_mean),
    "Min": _fold(minimum),
    "Mish": _polynomial(_mish, 60),
    "Mod": Function(_mod, 6),
    "Mul": _binary(lambda a, b: a * b),
    "Neg": _unary(_negative, 1),
    "Not": _unary(tir.Not, 1),
    "Or": _binary(tir.Or),
    "PRelu": _binary(_prelu, 2),
    "Pow": Function(_power, 30),
    "Quantize": Function(_quantize, 6),
    "QuantizeDequantize": Function(_quantize_dequantize, 7),  # both at once, per tensor
    "Reciprocal": _unary(lambda x: _like(1, x) / x, 4),
    "Relu": _unary(_relu, 1),
    "Round": _unary(_round, 1),
    "RoundedClip": Function(_rounded_clip, 3),  # not an operator: whole numbers within limits
    "Selu": Function(_selu, 20),
    "Shrink": Function(_shrink, 3),
    "Sigmoid": _polynomial(vm.sigmoid, 15),
    "Sign": _unary(_sign, 2),
    "Sin": _polynomial(vm.sin, 20),
    "Softplus": _polynomial(vm.softplus, 35),
    "Softsign": _unary(lambda x: x / (_like(1, x) + _absolute(x)), 6),
    "Sqrt": _unary(tir.sqrt, 6),
    "Sub": _binary(lambda a, b: a - b),
    "Sum": _fold(lambda a, b: a + b),
    "Swish": Function(_swish, 15),
    "Tan": _polynomial(lambda b, x: vm.sin(b, x) / vm.cos(b, x), 45),
    "Tanh": _polynomial(vm.tanh, 20),
    "ThresholdedRelu": Function(
        lambda b, v, o, d: tir.Select(v[0] > _like(o.get("alpha", 1.0), v[0]), v[0], _like(0, v[0]))
    ),
    "WeightedSum": Function(_weighted_sum, 2),  # not an operator: of any types, by constant factors
    "Where": Function(_where),
    "Xor": _binary(_xor),
    **{name: _in_double(operation) for name, operation in INVERSE_FUNCTIONS.items()},
}
