"""Finds the rule of an operator for parameters that are fed: every file of this folder is read."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module

import numpy as np
import onnx_ir as ir

from ...cpu.lazy import Lazy
from ...dims import is_fixed
from ..state import Lowering

__all__ = ["assumed", "declared", "fed", "fixed_shape", "lower_fed", "takes_fed"]

Rule = Callable[[Lowering, ir.Node], bool]
_RULES: dict[str, Rule] = {}


def takes_fed(*operators: str) -> Callable[[Rule], Rule]:
    """Declares a rule, which tells whether it has lowered the node."""

    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(operators, rule))
        return rule

    return register


@cache
def _load() -> None:
    package = import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f".{module.name}", __package__)


def lower_fed(state: Lowering, node: ir.Node) -> bool:
    """Lowers a node whose parameters are fed; False where they are not, or there is no rule for it."""
    _load()
    rule = _RULES.get(node.op_type)
    return rule is not None and rule(state, node)


def fed(state: Lowering, node: ir.Node, position: int) -> Lazy | None:
    """An input that is there and known only when the model runs, of a known number of elements."""
    value = node.inputs[position] if position < len(node.inputs) else None
    if value is None or state.constant(value) is not None or state.integers(value) is not None:
        return None
    if value not in state.values:
        return None
    lazy = state.lazy(value)
    return lazy if is_fixed(*lazy.shape) and len(lazy.shape) < 2 else None


def declared(node: ir.Node, position: int = 0) -> tuple[int, ...] | None:
    """The shape that the model declares for an output, where it is all numbers."""
    shape = node.outputs[position].shape
    if shape is None or not shape.is_static():
        return None
    return tuple(int(size) for size in shape.numpy())


def fixed_shape(lazy: Lazy) -> tuple[int, ...] | None:
    """Its shape, where it is all numbers."""
    return lazy.shape if is_fixed(*lazy.shape) else None


@contextmanager
def assumed(state: Lowering, value: ir.Value | None, array: object) -> Iterator[None]:
    """Inside, the value is taken for this int64 array."""
    assert value is not None
    state.arrays[value] = np.array(array, np.int64)
    try:
        yield
    finally:
        del state.arrays[value]
