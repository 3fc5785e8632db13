"""Input shapes that the user gives: `x:1,3,224,224`, or `ids:1,seq<=512`, whose size each run chooses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import onnx_ir as ir

from gossamer.runtime.errors import OptionError, nearest

from .shapes import shape_text

__all__ = [
    "InputShapes",
    "apply_input_shapes",
    "fixed_sizes",
    "parse_input_shapes",
    "require_ranks",
    "size_bounds",
]

InputShapes = Mapping[str, Sequence[int | str]]
"""Sizes by input: a number, or the name of a size that a run chooses, as `seq`, `seq<=512`, `2<=seq<=512`."""
_LIMIT = 2**31
_NAME = re.compile(r"(?:(?P<least>[0-9]+)<=)?(?P<name>[A-Za-z_][A-Za-z0-9_.]*)(?:<=(?P<most>[0-9]+))?")


class _Symbol(NamedTuple):
    """A size of a run; `most` is None where there is no bound."""

    name: str
    least: int
    most: int | None


def parse_input_shapes(texts: Iterable[str]) -> dict[str, tuple[int | str, ...]]:
    """The shapes of `NAME:d0,d1,…` texts; an input's name may hold colons. Raises OptionError.

    >>> parse_input_shapes(["x:1,3,224,224", "serving:0:1", "ids:1,seq<=512"])
    {'x': (1, 3, 224, 224), 'serving:0': (1,), 'ids': (1, 'seq<=512')}
    """
    shapes: dict[str, tuple[int | str, ...]] = {}
    for text in texts:
        name, colon, sizes = text.rpartition(":")
        words = [word.strip() for word in sizes.split(",")] if sizes.strip() else []
        if not colon or not name or not all(_is_size(word) for word in words):
            raise OptionError(
                "not an input shape",
                where=text,
                expected="NAME:1,3,224,224, sizes of 1 or more, or names as in NAME:1,seq<=512",
            )
        if name in shapes:
            raise OptionError("an input shape is given twice", where=text)
        shapes[name] = tuple(int(word) if word.isdigit() else word for word in words)
    return shapes


def _is_size(word: str) -> bool:
    if word.isascii() and word.isdigit():
        return 0 < int(word) < _LIMIT
    return _read(word) is not None


def _read(word: str) -> _Symbol | None:
    found = _NAME.fullmatch(word)
    if found is None:
        return None
    least = int(found["least"] or 1)
    most = None if found["most"] is None else int(found["most"])
    if not 1 <= least <= (_LIMIT - 1 if most is None else min(most, _LIMIT - 1)) or (most or 0) >= _LIMIT:
        return None
    return _Symbol(found["name"], least, most)


def _symbol(word: str, where: str) -> _Symbol:
    found = _read(word)
    if found is None:
        raise OptionError("not the name of a size", where=where, expected="as seq, seq<=512", got=word)
    return found


def fixed_sizes(shapes: InputShapes) -> dict[str, list[int | None]]:
    """The numbers of shapes; None for sizes that a run chooses."""
    return {name: [n if isinstance(n, int) else None for n in shape] for name, shape in shapes.items()}


def size_bounds(shapes: InputShapes) -> dict[str, tuple[int, int | None]]:
    """Least and most of every named size. Raises OptionError where two bounds are given for one."""
    bounds: dict[str, tuple[int, int | None]] = {}
    for name, shape in shapes.items():
        for word in shape:
            if not isinstance(word, str):
                continue
            symbol, least, most = _symbol(word, name)
            old = bounds.get(symbol, (1, None))
            if (least, most) != (1, None) and old not in ((1, None), (least, most)):
                raise OptionError(f"size {symbol!r} is given two bounds", where=name, got=word)
            bounds[symbol] = old if (least, most) == (1, None) else (least, most)
    return bounds


def apply_input_shapes(model: ir.Model, shapes: InputShapes) -> bool:
    """Give inputs these shapes, in place; whether that changed any. A symbol bound once is bound everywhere.

    Shapes that followed from the old ones are forgotten. Raises OptionError for an unknown input, another
    rank, or two sizes for one symbol.
    """
    if not shapes:
        return False
    inputs = {v.name: v for v in model.graph.inputs if not v.is_initializer()}
    bound: dict[str, int | str] = {}
    given = {name: [_dimension(size, name) for size in shape] for name, shape in shapes.items()}
    for name, shape in given.items():
        if name not in inputs:
            names = [str(known) for known in inputs]
            raise OptionError(
                f"no input is called {name!r}",
                expected="one of " + ", ".join(names),
                advice=nearest(name, names),
            )
        _bind(inputs[name], shape, bound)
    changed = _set_shapes(inputs, given, bound)
    if changed:
        _forget_shapes(model)
    return changed


def _dimension(size: int | str, where: str) -> int | str:
    return _symbol(size, where).name if isinstance(size, str) else size


def _bind(value: ir.Value, shape: Sequence[int | str], bound: dict[str, int | str]) -> None:
    if value.shape is None:
        return
    if len(value.shape) != len(shape):
        raise OptionError(
            f"the shape given for input {value.name!r} has another rank",
            expected=shape_text(value.shape),
            got=list(shape),
        )
    for dim, size in zip(value.shape, shape, strict=True):
        if not isinstance(dim, int) and dim.value is not None and bound.setdefault(dim.value, size) != size:
            raise OptionError(
                f"dimension {dim.value!r} is given two sizes", where=value.name, got=[bound[dim.value], size]
            )


def _set_shapes(
    inputs: Mapping[str | None, ir.Value], shapes: InputShapes, bound: Mapping[str, int | str]
) -> bool:
    changed = False
    for name, value in inputs.items():
        old = value.shape
        if name is not None and name in shapes:
            value.shape = ir.Shape(list(shapes[name]))
        elif old is not None:
            value.shape = ir.Shape([d if isinstance(d, int) else bound.get(d.value or "", d) for d in old])
        changed = changed or value.shape != old
    return changed


def _forget_shapes(model: ir.Model) -> None:
    """Forget what inference can find again; outputs of unknown operators keep what the file says."""
    for node in model.graph.all_nodes():
        if node.domain in ("", "ai.onnx", "ai.onnx.ml"):
            for value in node.outputs:
                # An output of a graph must declare a shape, though its sizes may be open.
                rank = len(value.shape) if value.is_graph_output() and value.shape is not None else None
                value.shape = None if rank is None else ir.Shape([None] * rank)


def require_ranks(model: ir.Model) -> None:
    """Raises OptionError naming the first input without a shape, and how to give it."""
    for value in model.graph.inputs:
        if value.shape is None and not value.is_initializer():
            raise OptionError(
                f"input {value.name!r} has no shape",
                advice=f"give one, as --input-shape {value.name}:1,3,224,224",
            )
