"""Everything in a graph that stands in the way of compiling it, found in one go by the rules themselves.

A node that cannot be lowered is noted, and a tensor of the declared shape stands in for what it would give,
so that the nodes behind it are looked at too. Where no shape is declared, what depends on it is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import onnx_ir as ir

from gossamer.runtime.errors import InputError

from ..cpu.lazy import Leaf
from ..cpu.tensor import contiguous
from ..dims import Size, symbol

if TYPE_CHECKING:
    from ..targets.base import Target
    from .state import Lowering

__all__ = ["Obstacle", "Survey", "find_obstacles", "noted"]


@dataclass(frozen=True)
class Obstacle:
    """What stands in the way: `operator` is a node's, or "input" or "output", "" for the whole model."""

    operator: str
    name: str
    error: InputError


@dataclass
class Survey:
    """What was found so far; `unknown` are values that nothing can stand in for."""

    found: list[Obstacle] = field(default_factory=list)
    unknown: set[ir.Value] = field(default_factory=set)

    def note(
        self, state: Lowering, operator: str, name: str, error: InputError, gives: list[ir.Value]
    ) -> None:
        """One more obstacle; `gives` are the values that are missing now."""
        self.found.append(Obstacle(operator, name, error))
        for value in gives:
            if value not in state.values and value not in state.arrays:
                self._stand_in(state, value)

    def _stand_in(self, state: Lowering, value: ir.Value) -> None:
        from .state import dtype_name

        try:
            dtype = dtype_name(value, "")
        except InputError:
            dtype = ""
        if value.shape is None or not dtype:
            self.unknown.add(value)
            return
        shape = tuple(_size(value, axis) for axis in range(len(value.shape)))
        state.values[value] = Leaf(state.new_tensor(value.name or "", dtype, shape, contiguous(shape)))

    def leaves_out(self, node: ir.Node) -> bool:
        """Whether a node reads what is not known; then nothing of it is known either."""
        missing = any(value in self.unknown for value in node.inputs if value is not None)
        if missing:
            self.unknown.update(node.outputs)
        return missing


def _size(value: ir.Value, axis: int) -> Size:
    assert value.shape is not None
    dim = value.shape[axis]
    return dim if isinstance(dim, int) else symbol(dim.value or f"{value.name}_dim_{axis}", 1, None)


@contextmanager
def noted(state: Lowering, operator: str, name: str, gives: list[ir.Value]) -> Iterator[None]:
    """In a survey, an error is noted and the block left; else it is raised."""
    try:
        yield
    except InputError as error:
        if state.survey is None:
            raise
        state.survey.note(state, operator, name, error, gives)


def find_obstacles(model: ir.Model, target: Target) -> list[Obstacle]:
    """All of them, in the order of the graph, for a model that `gossamer.passes.preparing` has made ready.

    Empty if `lower` takes the model, which is then tried. Nothing is built.
    """
    from ..cpu.isa import Isa
    from .inputs import bind_inputs
    from .lower import lower, lower_nodes, write_outputs
    from .state import Lowering

    survey = Survey()
    state = Lowering(Isa(target, next(iter(target.variants))), survey=survey)
    bind_inputs(state, model.graph)
    with noted(state, "", "", []):
        lower_nodes(state, model.graph)
        write_outputs(state, model.graph)
    if not survey.found:
        with noted(state, "", "", []):
            lower(model, target)
    return survey.found
