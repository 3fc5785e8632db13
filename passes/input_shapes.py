"""Input shapes that the user gives: `x:1,3,224,224`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx_ir as ir

from gossamer.runtime.errors import OptionError, nearest

from .shapes import shape_text

__all__ = ["apply_input_shapes", "parse_input_shapes", "require_static_inputs"]

_LIMIT = 2**31


def parse_input_shapes(texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """The shapes of `NAME:d0,d1,…` texts; an input's name may hold colons. Raises OptionError.

    >>> parse_input_shapes(["x:1,3,224,224", "serving:0:1"])
    {'x': (1, 3, 224, 224), 'serving:0': (1,)}
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, colon, sizes = text.rpartition(":")
        try:
            shape = tuple(int(size) for size in sizes.split(",")) if sizes.strip() else ()
        except ValueError:
            shape = (0,)
        if not colon or not name or any(not 0 < size < _LIMIT for size in shape):
            raise OptionError(
                "not an input shape", where=text, expected="NAME:1,3,224,224, sizes of 1 or more"
            )
        if name in shapes:
            raise OptionError("an input shape is given twice", where=text)
        shapes[name] = shape
    return shapes


def apply_input_shapes(model: ir.Model, shapes: Mapping[str, Sequence[int]]) -> bool:
    """Give inputs these shapes, in place; whether that changed any. A symbol bound once is bound everywhere.

    Shapes that followed from the old ones are forgotten. Raises OptionError for an unknown input, another
    rank, or two sizes for one symbol.
    """
    if not shapes:
        return False
    inputs = {v.name: v for v in model.graph.inputs if not v.is_initializer()}
    bound: dict[str, int] = {}
    for name, shape in shapes.items():
        if name not in inputs:
            names = [str(known) for known in inputs]
            raise OptionError(
                f"no input is called {name!r}",
                expected="one of " + ", ".join(names),
                advice=nearest(name, names),
            )
        _bind(inputs[name], shape, bound)
    changed = _set_shapes(inputs, shapes, bound)
    if changed:
        _forget_shapes(model)
    return changed


def _bind(value: ir.Value, shape: Sequence[int], bound: dict[str, int]) -> None:
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
    inputs: Mapping[str | None, ir.Value], shapes: Mapping[str, Sequence[int]], bound: Mapping[str, int]
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


def require_static_inputs(model: ir.Model) -> None:
    """Raises OptionError naming the first input that has a dimension without a size, and how to give it."""
    for value in model.graph.inputs:
        if value.is_initializer():
            continue
        if value.shape is None:
            raise OptionError(
                f"input {value.name!r} has no shape",
                advice=f"give one, as --input-shape {value.name}:1,3,224,224",
            )
        for index, dim in enumerate(value.shape):
            if not isinstance(dim, int):
                sizes = ",".join(str(d) if isinstance(d, int) else "1" for d in value.shape)
                raise OptionError(
                    f"input {value.name!r} has no size for dimension {index} ({dim.value or 'unnamed'})",
                    got=shape_text(value.shape),
                    advice=f"give the sizes, as --input-shape {value.name}:{sizes}",
                )
