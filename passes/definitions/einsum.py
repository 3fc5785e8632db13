"""Einsum as transposed operands, matrix products and sums.

Two operands are one product of matrices where an index is summed: axes that both and the result have stay
in front as MatMul's batch axes, which are broadcast; the rest is merged to rows, summed axes and columns.
Operands are taken in from the left, one after the other. https://onnx.ai/onnx/operators/onnx__Einsum.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from gossamer.runtime.errors import ModelError

from .base import Body

OPERATORS = ("Einsum",)

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@dataclass(frozen=True)
class _Term:
    """A value, and the letter of each of its axes."""

    value: str
    axes: str


def define(body: Body, node: ir.Node) -> Sequence[str] | None:
    """Nodes of the sum; None where the rank of an operand is not known."""
    ranks = [None if v is None or v.shape is None else len(v.shape) for v in node.inputs]
    if None in ranks:
        return None
    operands, result = _letters(node, [r for r in ranks if r is not None])
    terms = [_diagonals(body, _Term(v, axes)) for v, axes in zip(body.inputs, operands, strict=True)]
    by_matrix = node.inputs[0] is not None and node.inputs[0].dtype in _FLOATS
    total = terms[0]
    for position, term in enumerate(terms[1:], 1):
        later = set(result).union(*(t.axes for t in terms[position + 1 :]))
        total = _joined(body, total, term, later, by_matrix=by_matrix)
    total = _summed(body, total, set(result))
    return [_ordered(body, total, result).value]


def _letters(node: ir.Node, ranks: Sequence[int]) -> tuple[list[str], str]:
    """One letter for each axis of every operand and of the result; digits stand for those of an ellipsis."""
    equation = node.attributes["equation"].as_string().replace(" ", "")
    left, arrow, right = equation.partition("->")
    operands = left.split(",")
    wide = 0
    for term, rank in zip(operands, ranks, strict=False):
        named = len(term.replace("...", ""))
        fits = rank == named if "..." not in term else rank >= named
        if not fits:
            raise ModelError(
                "the equation does not fit", where=node.name, expected=f"{term}", got=f"rank {rank}"
            )
        wide = max(wide, rank - named)
    if len(operands) != len(ranks) or wide > 10:
        raise ModelError("the equation does not fit", where=node.name, got=equation)
    digits = "0123456789"[:wide]
    filled = [
        term.replace("...", digits[wide - (rank - len(term.replace("...", ""))) :])
        for term, rank in zip(operands, ranks, strict=True)
    ]
    if arrow:
        return filled, right.replace("...", digits)
    counts = Counter(letter for term in operands for letter in term.replace("...", ""))
    return filled, digits + "".join(sorted(letter for letter, count in counts.items() if count == 1))


def _diagonals(body: Body, term: _Term) -> _Term:
    """An operand that names an axis twice is read along the diagonal of the two."""
    for letter in dict.fromkeys(term.axes):
        while term.axes.count(letter) > 1:
            first = term.axes.index(letter)
            second = term.axes.index(letter, first + 1)
            rest = [i for i in range(len(term.axes)) if i not in (first, second)]
            turned = body.op("Transpose", term.value, perm=[first, second, *rest])
            size = body.op("Squeeze", body.shape_of(turned, [0]))
            along = body.op("Range", body.constant(0), size, body.constant(1))
            along = body.op("Unsqueeze", along, body.constant([1]))
            diagonal = body.op("GatherND", turned, body.op("Concat", along, along, axis=1))
            term = _Term(diagonal, letter + "".join(term.axes[i] for i in rest))
    return term


def _joined(body: Body, a: _Term, b: _Term, later: set[str], *, by_matrix: bool) -> _Term:
    """The product of two operands, summed over what nothing needs later."""
    a = _summed(body, a, later | set(b.axes))
    b = _summed(body, b, later | set(a.axes))
    shared = [x for x in a.axes if x in b.axes]
    batch, summed = [x for x in shared if x in later], [x for x in shared if x not in later]
    rows, columns = [x for x in a.axes if x not in shared], [x for x in b.axes if x not in shared]
    if not by_matrix or not summed or any(x.isdigit() for x in summed):
        return _summed(body, _multiplied(body, a, b), later)
    a = _ordered(body, a, [*batch, *rows, *summed])
    b = _ordered(body, b, [*batch, *summed, *columns])
    lead = len(batch)
    left = _merged(body, a.value, lead, [len(rows), len(summed)])
    right = _merged(body, b.value, lead, [len(summed), len(columns)])
    product = body.op("MatMul", left, right)
    return _Term(
        _split(body, product, a, b, lead, len(rows), len(columns)), "".join([*batch, *rows, *columns])
    )


def _multiplied(body: Body, a: _Term, b: _Term) -> _Term:
    """Both broadcast to all axes."""
    axes = [*a.axes, *(x for x in b.axes if x not in a.axes)]
    axes.sort(key=lambda x: not x.isdigit())  # those of an ellipsis in front: sizes of 1 are broadcast
    values = [_spread(body, term, axes) for term in (a, b)]
    return _Term(body.op("Mul", *values), "".join(axes))


def _spread(body: Body, term: _Term, axes: Sequence[str]) -> str:
    ordered = _ordered(body, term, [x for x in axes if x in term.axes])
    missing = [i for i, x in enumerate(axes) if x not in term.axes]
    return str(body.op("Unsqueeze", ordered.value, body.constant(missing))) if missing else ordered.value


def _merged(body: Body, value: str, lead: int, counts: Sequence[int]) -> str:
    """Axes behind the first `lead` merged to one for each of `counts`, of size 1 for a count of 0."""
    if all(count == 1 for count in counts):
        return value
    sizes = [body.shape_of(value, range(lead))] if lead else []
    start = lead
    for count in counts:
        part = body.shape_of(value, range(start, start + count)) if count else body.constant([1])
        sizes.append(body.op("ReduceProd", part, keepdims=1))
        start += count
    return str(body.op("Reshape", value, body.op("Concat", *sizes, axis=0), allowzero=1))


def _split(body: Body, product: str, a: _Term, b: _Term, lead: int, rows: int, columns: int) -> str:
    """Rows and columns of a product as the axes they were merged of."""
    if rows == columns == 1:
        return product
    sizes = [body.shape_of(product, range(lead))] if lead else []
    if rows:
        sizes.append(body.shape_of(a.value, range(lead, lead + rows)))
    if columns:
        sizes.append(body.shape_of(b.value, range(len(b.axes) - columns, len(b.axes))))
    shape = body.op("Concat", *sizes, axis=0) if sizes else body.constant([])
    return str(body.op("Reshape", product, shape, allowzero=1))


def _summed(body: Body, term: _Term, kept: set[str]) -> _Term:
    gone = [i for i, x in enumerate(term.axes) if x not in kept]
    if not gone:
        return term
    value = body.op("ReduceSum", term.value, body.constant(gone), keepdims=0)
    return _Term(value, "".join(x for x in term.axes if x in kept))


def _ordered(body: Body, term: _Term, axes: Sequence[str]) -> _Term:
    perm = [term.axes.index(x) for x in axes]
    if perm == sorted(perm):
        return term
    return _Term(body.op("Transpose", term.value, perm=perm), "".join(axes))
