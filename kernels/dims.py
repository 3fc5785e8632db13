"""Sizes that are known when a model runs: whole numbers computed from named symbols.

A size is an `int` or a `Dim`: a polynomial of symbols with whole coefficients, in one normal form, so that
equal polynomials are equal objects to `==` and `hash`. Quotients, remainders, minima and maxima that do not
come out as polynomials are symbols of their own. What code asks of a number works where it can be decided:
`==` is equality for every value of the symbols, `<` follows from their bounds, and what cannot be decided
raises UndecidedError. In expressions of TIR a `Dim` stands for itself (`i * dim`): the function under
construction then has one parameter for each symbol.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import inf
from typing import TYPE_CHECKING, Any

from gossamer.runtime.errors import UnsupportedError

__all__ = [
    "BOUNDS",
    "Dim",
    "Operation",
    "Size",
    "Symbol",
    "UndecidedError",
    "at_most",
    "evaluated",
    "expression",
    "fits",
    "fixed",
    "is_fixed",
    "is_symbol",
    "larger",
    "may_turn",
    "smaller",
    "symbol",
    "symbol_name",
    "symbols_of",
    "upper_bound",
    "variable",
]


BOUNDS = "gossamer.bounds"
"""Key of an ONNX graph's `meta`: least and most (None: any) of its symbols, by name."""
_PREFIX = "dim_"  # of the variables that stand for symbols


class UndecidedError(UnsupportedError):
    """Something depends on the value of a size that is not known before the model runs."""


@dataclass(frozen=True, order=True)
class Symbol:
    """A size with a name; `least` and `most` (None: no bound) are what a run may bring."""

    name: str
    least: int = 1
    most: int | None = None

    def bounds(self) -> tuple[float, float]:
        return self.least, inf if self.most is None else self.most

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Operation:
    """A floored quotient, a remainder, a minimum or a maximum of two sizes."""

    kind: str  # "//", "%", "min", "max"
    left: Dim
    right: Dim

    def bounds(self) -> tuple[float, float]:
        left, right = self.left.bounds(), self.right.bounds()
        if self.kind == "min":
            return min(left[0], right[0]), min(left[1], right[1])
        if self.kind == "max":
            return max(left[0], right[0]), max(left[1], right[1])
        if right[0] <= 0:
            return -inf, inf
        if self.kind == "%":
            return 0, right[1] - 1 if left[0] < 0 else min(left[1], right[1] - 1)
        corners = [_floor(a, b) for a in left for b in right]
        return min(corners), max(corners)

    def __str__(self) -> str:
        if self.kind in ("min", "max"):
            return f"{self.kind}({self.left}, {self.right})"
        return f"({self.left}) {self.kind} {self.right}"


def _floor(a: float, b: float) -> float:
    if b == inf:
        return 0 if a >= 0 else -1
    return a if a in (inf, -inf) else a // b


Atom = Symbol | Operation
Monomial = tuple[Atom, ...]  # sorted by their text; () is the constant term


def _sorted(atoms: Sequence[Atom]) -> Monomial:
    return tuple(sorted(atoms, key=str))


class Dim:
    """A size that is not a plain number; made by `symbol` and arithmetic, which gives `int` where it can."""

    __slots__ = ("_hash", "_terms")
    __array_ufunc__ = None  # numpy leaves arithmetic with numbers to this class

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        kept = {m: c for m, c in terms.items() if c}
        self._terms = tuple(sorted(kept.items(), key=lambda term: (-len(term[0]), [str(a) for a in term[0]])))
        self._hash = hash(self._terms)

    # ---- what it is -------------------------------------------------------------------------
    @property
    def terms(self) -> tuple[tuple[Monomial, int], ...]:
        """(product of symbols, coefficient), the constant last."""
        return self._terms

    def bounds(self) -> tuple[float, float]:
        """Least and most that it can be, not always tight."""
        low = high = 0.0
        for monomial, factor in self._terms:
            ends = [float(factor)]
            for atom in monomial:
                ends = [_times(a, b) for a, b in product(ends, atom.bounds())]
                ends = [min(ends), max(ends)]
            low, high = low + min(ends), high + max(ends)
        return low, high

    def __str__(self) -> str:
        return " + ".join(_text(m, c) for m, c in self._terms).replace("+ -", "- ") or "0"

    def __repr__(self) -> str:
        return f"Dim({self})"

    def __hash__(self) -> int:
        return self._hash

    # ---- arithmetic -------------------------------------------------------------------------
    def __add__(self, other: Any) -> Any:
        other = _number(other)
        if not isinstance(other, int | Dim):
            return self._expression() + other if _is_expression(other) else NotImplemented
        terms = dict(self._terms)
        for monomial, factor in _terms(other):
            terms[monomial] = terms.get(monomial, 0) + factor
        return _normal(terms)

    def __mul__(self, other: Any) -> Any:
        other = _number(other)
        if not isinstance(other, int | Dim):
            return self._expression() * other if _is_expression(other) else NotImplemented
        terms: dict[Monomial, int] = {}
        for (m, c), (n, d) in product(self._terms, _terms(other)):
            monomial = _sorted((*m, *n))
            terms[monomial] = terms.get(monomial, 0) + c * d
        return _normal(terms)

    def __neg__(self) -> Any:
        return self * -1

    def __sub__(self, other: Any) -> Any:
        return self + (-1 * other)

    def __rsub__(self, other: Any) -> Any:
        return other - self._expression() if _is_expression(other) else _number(other) + (-1 * self)

    def __floordiv__(self, other: Any) -> Any:
        return _divided(self, other)[0]

    def __mod__(self, other: Any) -> Any:
        return _divided(self, other)[1]

    def __rfloordiv__(self, other: Any) -> Any:
        return _divided(other, self)[0]

    def __rmod__(self, other: Any) -> Any:
        return _divided(other, self)[1]

    def __divmod__(self, other: Any) -> tuple[Any, Any]:
        return _divided(self, other)

    def __rdivmod__(self, other: Any) -> tuple[Any, Any]:
        return _divided(other, self)

    def __radd__(self, other: Any) -> Any:
        return other + self._expression() if _is_expression(other) else self + other

    def __rmul__(self, other: Any) -> Any:
        return other * self._expression() if _is_expression(other) else self * other

    # ---- decisions --------------------------------------------------------------------------
    def __eq__(self, other: object) -> bool:
        if isinstance(other, Dim):
            return self._terms == other._terms
        return False  # of a number, since what equals one is an `int`

    def __lt__(self, other: Any) -> bool:
        return _decide(other - self, f"{self} < {other}")

    def __gt__(self, other: Any) -> bool:
        return _decide(self - other, f"{self} > {other}")

    def __le__(self, other: Any) -> bool:
        return not _decide(self - other, f"{self} <= {other}")

    def __ge__(self, other: Any) -> bool:
        return not _decide(other - self, f"{self} >= {other}")

    def __bool__(self) -> bool:
        low, high = self.bounds()
        if low > 0 or high < 0:
            return True
        raise UndecidedError("a size is known only at run time", expected="a number", got=str(self))

    def __index__(self) -> int:
        raise UndecidedError("a size is known only at run time", expected="a number", got=str(self))

    __int__ = __index__

    # ---- code -------------------------------------------------------------------------------
    def _expression(self) -> Any:
        return expression(self)

    def __tvm_ffi_object__(self) -> Any:
        """How TVM reads it wherever it wants an expression."""
        return expression(self)


if TYPE_CHECKING:
    Size = int  # nearly all kernels are made for numbers; where they are not, UndecidedError says so
else:
    Size = int | Dim


def symbol(name: str, least: int = 1, most: int | None = None) -> Size:
    """A new size; a plain number where only one value is left.

    >>> n = symbol("n")
    >>> (n * 64 + 32) // 16, (2 * n) % 2, n == n + 0
    (Dim(4*n + 2), 0, True)
    """
    made: Any = Dim({(Symbol(name, least, most),): 1})
    return least if least == most else made


def is_fixed(*sizes: int | Dim) -> bool:
    """Whether all are plain numbers."""
    return not any(isinstance(size, Dim) for size in sizes)


def may_turn(size: int | Dim) -> bool:
    """Whether a loop of so many turns may have one: False for 0 only."""
    return not isinstance(size, int) or size != 0


def fixed(size: int | Dim, where: str) -> int:
    """The number that a size is; raises UnsupportedError where it is known only at run time."""
    if isinstance(size, Dim):
        advice = f"give --input-shape a number for what {size} is computed from"
        raise UndecidedError(
            "a size must be known when the model is compiled",
            where=where, expected="a number", got=str(size), advice=advice,
        )  # fmt: skip
    return int(size)


def smaller(a: int | Dim, b: int | Dim) -> Size:
    """The minimum."""
    found: Size = _either("min", a, b)
    return found


def larger(a: int | Dim, b: int | Dim) -> Size:
    """The maximum."""
    found: Size = _either("max", a, b)
    return found


def upper_bound(size: int | Dim) -> int | None:
    """The most that a size can be; None without a bound."""
    if not isinstance(size, Dim):
        return size
    high = size.bounds()[1]
    return None if high == inf else int(high)


def fits(size: int | Dim, limit: int | Dim) -> bool:
    """Whether size <= limit for every value of the symbols; False where that is not known."""
    gap = limit - size
    low: float = gap.bounds()[0] if isinstance(gap, Dim) else gap
    return low >= 0


def at_most(size: int | Dim, capacities: Mapping[str, int | Dim]) -> Size:
    """A size that is never less, without the symbols that `capacities` bounds (from 0 on).

    >>> at_most(symbol("k", 0) * 2 + symbol("n"), {"k": 8})
    Dim(n + 16)
    """
    found: Size = _end_of(size, capacities, upper=True)
    return found


def symbols_of(*sizes: int | Dim) -> tuple[Symbol, ...]:
    """Symbols that sizes are computed from, by name."""
    found = {s.name: s for size in sizes if isinstance(size, Dim) for s in _symbols(size)}
    return tuple(found[name] for name in sorted(found))


def evaluated(size: int | Dim, values: Mapping[str, Any]) -> Any:
    """The size where symbols have `values`, by name: numbers, sizes or expressions.

    A symbol without a value stays what it is.

    >>> evaluated(symbol("n") * 2 + 1, {"n": 5})
    11
    """
    if not isinstance(size, Dim):
        return size
    total: Any = 0
    for monomial, factor in size.terms:
        value: Any = factor
        for atom in monomial:
            value = value * _evaluated_atom(atom, values)
        total = total + value
    return total


def _end_of(size: int | Dim, capacities: Mapping[str, int | Dim], *, upper: bool) -> Any:
    """The greatest or least value over symbols that lie between 0 and their capacities."""
    if not any(s.name in capacities for s in symbols_of(size)):
        return size
    total: Size = 0
    for monomial, factor in _terms(size):
        value: Size = factor
        for atom in monomial:
            value = value * _end_of_atom(atom, capacities, upper=upper == (factor > 0))
        total = total + value
    return total


def _end_of_atom(atom: Atom, capacities: Mapping[str, int | Dim], *, upper: bool) -> Any:
    if isinstance(atom, Symbol):
        known = atom.name in capacities
        return (capacities[atom.name] if upper else 0) if known else Dim({(atom,): 1})
    left = _end_of(atom.left, capacities, upper=upper)
    if atom.kind in ("min", "max"):
        found: Size = _either(atom.kind, left, _end_of(atom.right, capacities, upper=upper))
        return found
    if any(s.name in capacities for s in symbols_of(atom.right)):
        return left if upper else 0
    if atom.kind == "//":
        return left // atom.right
    return atom.right - 1 if upper else 0


def _evaluated_atom(atom: Atom, values: Mapping[str, Any]) -> Any:
    if isinstance(atom, Symbol):
        return values.get(atom.name, Dim({(atom,): 1}))
    left, right = evaluated(atom.left, values), evaluated(atom.right, values)
    if atom.kind == "//":
        return left // right
    if atom.kind == "%":
        return left % right
    return _either(atom.kind, left, right)


@cache
def expression(size: Size, dtype: str = "int32") -> Any:
    """A TIR expression of the size; its symbols are the variables of `variable`."""
    from tvm import tirx as tir

    total: Any = tir.const(0, dtype)
    for monomial, factor in _terms(size):
        value: Any = tir.const(factor, dtype)
        for atom in monomial:
            value = value * _atom_expression(atom, dtype)
        total = total + value
    return total


def _atom_expression(atom: Atom, dtype: str) -> Any:
    from tvm import tirx as tir

    if isinstance(atom, Symbol):
        return variable(atom.name, dtype)
    left, right = expression(atom.left, dtype), expression(atom.right, dtype)
    if atom.kind in ("//", "%") and atom.right.bounds()[0] > 0:
        return _quotient(atom, left, right)
    functions = {"//": tir.floordiv, "%": tir.floormod, "min": tir.min, "max": tir.max}
    return functions[atom.kind](left, right)


def _quotient(atom: Operation, left: Any, right: Any) -> Any:
    """By truncating division where signs are known: TVM makes constants of others that may not fit."""
    from tvm import tirx as tir

    low, high = atom.left.bounds()
    if low >= 0:
        return tir.truncdiv(left, right) if atom.kind == "//" else tir.truncmod(left, right)
    if high <= 0 and atom.kind == "//":
        return -tir.truncdiv(right - left - 1, right)
    return tir.floordiv(left, right) if atom.kind == "//" else tir.floormod(left, right)


@cache
def variable(name: str, dtype: str = "int32") -> Any:
    """The TIR variable that stands for a symbol, in every function that uses it."""
    from tvm import tirx as tir

    return tir.Var(_PREFIX + name, dtype)


def is_symbol(var: Any) -> bool:
    """Whether a TIR variable stands for a symbol."""
    return str(var.name).startswith(_PREFIX)


def symbol_name(var: Any) -> str:
    """The symbol that a variable stands for."""
    return str(var.name).removeprefix(_PREFIX)


# ---- the algebra ----------------------------------------------------------------------------
def _terms(size: int | Dim) -> Sequence[tuple[Monomial, int]]:
    return size.terms if isinstance(size, Dim) else (((), size),)


def _normal(terms: Mapping[Monomial, int]) -> Any:
    left = {m: c for m, c in terms.items() if c}
    if not left:
        return 0
    return left[()] if len(left) == 1 and () in left else Dim(left)


def _as_dim(size: int | Dim) -> Dim:
    return size if isinstance(size, Dim) else Dim({(): int(size)})


def _number(value: Any) -> Any:
    """numpy's integers are numbers too."""
    return int(value) if type(value).__module__ == "numpy" else value


def _is_expression(value: Any) -> bool:
    return hasattr(value, "ty") or type(value).__module__.startswith("tvm")


def _divided(a: Any, b: Any) -> tuple[Any, Any]:
    """Floored quotient and remainder."""
    if _is_expression(a) or _is_expression(b):
        left, right = (expression(x) if isinstance(x, Dim) else x for x in (a, b))
        return left // right, left % right
    a, b = _number(a), _number(b)
    if isinstance(a, int) and isinstance(b, int):
        return divmod(a, b)
    if b == 1:
        return a, 0
    whole, rest = _split(a, b)
    if isinstance(rest, int) and rest == 0:
        return whole, 0
    if _within(rest, b):
        return whole, rest
    if isinstance(rest, int) and isinstance(b, int):
        more, rest = divmod(rest, b)
        return whole + more, rest
    quotient = Dim({(Operation("//", _as_dim(rest), _as_dim(b)),): 1})
    remainder = Dim({(Operation("%", _as_dim(rest), _as_dim(b)),): 1})
    return whole + quotient, remainder


def _split(a: int | Dim, b: int | Dim) -> tuple[Any, Any]:
    """a = whole * b + rest, with as much in `whole` as can be divided term by term."""
    if isinstance(b, Dim) and len(b.terms) != 1:
        return (1, 0) if a == b else _multiple(a, b)
    (monomial, factor), *_ = _terms(b)
    whole: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for term, c in _terms(a):
        left = _without(term, monomial)
        if left is None:
            rest[term] = c
            continue
        times, over = divmod(c, factor)
        whole[left] = times
        rest[term] = over
    return _normal(whole), _normal(rest)


def _multiple(a: int | Dim, b: Dim) -> tuple[Any, Any]:
    """The same for a polynomial `b`, where its leading terms divide those of `a` without rest."""
    whole: Size = 0
    rest = a
    (lead, factor), *_ = b.terms
    while isinstance(rest, Dim):
        found = [
            (m, c) for term, c in rest.terms if c % factor == 0 and (m := _without(term, lead)) is not None
        ]
        if not found:
            return 0, a
        part = _normal({found[0][0]: found[0][1] // factor})
        whole, rest = whole + part, rest - part * b
        if isinstance(whole, Dim) and len(whole.terms) > 16:
            return 0, a
    return (whole, 0) if rest == 0 else (0, a)


def _without(term: Monomial, factor: Monomial) -> Monomial | None:
    """term / factor, None where that is no product of symbols."""
    left = list(term)
    for atom in factor:
        if atom not in left:
            return None
        left.remove(atom)
    return _sorted(left)


def _within(rest: int | Dim, b: int | Dim) -> bool:
    """Whether 0 <= rest < b for certain."""
    low = rest.bounds()[0] if isinstance(rest, Dim) else rest
    gap = b - rest
    return low >= 0 and (gap.bounds()[0] if isinstance(gap, Dim) else gap) > 0


def _either(kind: str, a: Any, b: Any) -> Any:
    if _is_expression(a) or _is_expression(b):
        from tvm import tirx as tir

        return (tir.min if kind == "min" else tir.max)(a, b)
    gap = a - b
    low, high = gap.bounds() if isinstance(gap, Dim) else (gap, gap)
    if low >= 0:
        return b if kind == "min" else a
    if high <= 0:
        return a if kind == "min" else b
    return Dim({(Operation(kind, _as_dim(a), _as_dim(b)),): 1})


def _decide(difference: int | Dim, question: str) -> bool:
    """Whether it is more than 0."""
    low, high = difference.bounds() if isinstance(difference, Dim) else (difference, difference)
    if low > 0:
        return True
    if high <= 0:
        return False
    raise UndecidedError("a size is known only at run time", expected=f"whether {question}", got="unknown")


def _times(a: float, b: float) -> float:
    return 0.0 if 0 in (a, b) else a * b


def _text(monomial: Monomial, factor: int) -> str:
    names = "*".join(str(atom) for atom in monomial)
    if not names:
        return str(factor)
    return names if factor == 1 else f"-{names}" if factor == -1 else f"{factor}*{names}"


def _symbols(size: Dim) -> Iterator[Symbol]:
    for monomial, _ in size.terms:
        for atom in monomial:
            if isinstance(atom, Symbol):
                yield atom
            else:
                yield from (*_symbols(atom.left), *_symbols(atom.right))
