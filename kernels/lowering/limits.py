"""Limits are held, and every refusal names its node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import prod

import onnx_ir as ir

from gossamer.runtime.errors import GossamerError, ModelError, UnsupportedError

from ..limits import ARENA_LIMIT, ELEMENT_LIMIT
from .attributes import describe
from .state import Lowering

__all__ = ["check_arena", "check_tensors", "named_failures"]


def check_tensors(state: Lowering, values: Iterable[ir.Value | None], where: str) -> None:
    """Raises ModelError for a negative size of a value, computed or not; UnsupportedError for more elements
    than kernels can count."""
    for value in values:
        if value is None:
            continue
        lazy = state.values.get(value)
        shape = lazy.shape if lazy is not None else tuple(value.shape or ())
        if any(isinstance(size, int) and size < 0 for size in shape):
            what = f"value {value.name!r} has a negative size"
            raise ModelError(what, where=where, expected="0 or more", got=list(shape))
        if _elements(shape) > ELEMENT_LIMIT:
            raise UnsupportedError(
                f"value {value.name!r} is too large",
                where=where,
                expected=f"at most {ELEMENT_LIMIT} elements",
                got=list(shape),
            )


def _elements(shape: Sequence[object]) -> int:
    """0 where a size is known at run time only; no size hides behind another one that is 0."""
    sizes = [max(1, size) for size in shape if isinstance(size, int)]
    return prod(sizes) if len(sizes) == len(shape) else 0


def check_arena(size: int) -> None:
    """Raises UnsupportedError for activations that no session should allocate."""
    if size > ARENA_LIMIT:
        raise UnsupportedError(
            "the model's activations take too much memory",
            expected=f"at most {ARENA_LIMIT} bytes",
            got=size,
            advice="compile it for smaller inputs (--input-shape)",
        )


@contextmanager
def named_failures(node: ir.Node) -> Iterator[None]:
    """Every refusal names the node; what a rule did not foresee is one too, before anything is built."""
    try:
        yield
    except (ModelError, UnsupportedError) as error:
        if describe(node) in str(error):
            raise
        where = describe(node) if error.where is None else f"{describe(node)}: {error.where}"
        raise type(error)(
            error.what, where=where, expected=error.expected, got=error.got, advice=error.advice
        ) from error
    except (GossamerError, MemoryError):
        raise
    except ZeroDivisionError as error:
        raise ModelError(
            "a rank, size, step or scale is 0 where the operator needs more", where=describe(node)
        ) from error
    except Exception as error:
        # The libraries below raise errors of their own for what they cannot express.
        text = " ".join(str(error).split())
        raise UnsupportedError(
            "the compiler cannot take this node",
            where=describe(node),
            got=f"{type(error).__name__}: {text}",
            advice="please report it",
        ) from error
