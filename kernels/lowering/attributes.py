"""Reads node attributes with ONNX's defaults."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from gossamer.runtime.errors import ModelError

__all__ = ["describe", "flag", "integer", "integers", "number", "require_equal", "text"]


def describe(node: ir.Node) -> str:
    """How messages name a node: its operator and name."""
    return f"{node.op_type} node {node.name!r}"


def require_equal(node: ir.Node, what: str, expected: object, got: object) -> None:
    """What kernels take for granted; a file that says otherwise would have them read out of bounds."""
    if expected != got:
        raise ModelError(f"{what} do not fit", where=describe(node), expected=expected, got=got)


def integer(node: ir.Node, name: str, default: int) -> int:
    """An INT attribute."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def flag(node: ir.Node, name: str, default: bool = False) -> bool:
    """An INT attribute used as a truth value."""
    return bool(integer(node, name, int(default)))


def number(node: ir.Node, name: str, default: float) -> float:
    """A FLOAT attribute."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_float()


def text(node: ir.Node, name: str, default: str) -> str:
    """A STRING attribute."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_string()


def integers(node: ir.Node, name: str, default: Sequence[int]) -> tuple[int, ...]:
    """An INTS attribute."""
    attribute = node.attributes.get(name)
    return tuple(default) if attribute is None else tuple(attribute.as_ints())
