"""Branches and loops of the entry, as TIR around calls of kernels.

Every thread runs the same calls and decides for itself, by the same values: it reads a condition into a
variable of its own behind the barrier of the kernel that wrote it, and meets the others before anybody may
write it again. A meeting inside a branch or loop is not one of those that a profiler counts: that is why
one thread alone leaves them out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import ir
from tvm import tirx as tir

from ..cpu.tensor import Tensor, stored_type
from ..dims import Size, variable
from .tree import Branch, Repeat

__all__ = ["Surroundings", "branch", "repeat"]

_FOREVER = 2**31 - 2


@dataclass(frozen=True)
class Surroundings:
    """What the entry gives: addresses, sizes as int64 expressions, the barrier, a thread's number.

    `fail` gives statements that say why a run failed.
    """

    address: Callable[[Tensor], Any]
    value: Callable[[Size], Any]
    fail: Callable[[str], list[Any]]
    meet: Any
    thread: Any


class _Local:
    """An int32 variable of one thread; a stack slot, since bound values would be read again later."""

    def __init__(self, name: str) -> None:
        self._buffer = tir.decl_buffer((1,), "int32", name=name, data_alignment=64, layout=None)
        self.declaration = tir.AllocBuffer(self._buffer)

    def set(self, value: Any) -> Any:
        return tir.BufferStore(self._buffer, value, [_number(0)])

    @property
    def value(self) -> Any:
        return tir.BufferLoad(self._buffer, [_number(0)])


def _number(value: int) -> Any:
    return tir.IntImm("int32", value)


def _read(address: Any, dtype: str, name: str) -> tuple[list[Any], Any]:
    """What declares the memory at `address`, and its first element."""
    pointer = tir.Var(name, ir.PointerType(ir.PrimType(dtype)))
    buffer = tir.decl_buffer((1,), dtype, name=f"{name}_b", data_alignment=1, layout=None)
    declared = [tir.Bind(pointer, address), tir.DeclBuffer(buffer, data=pointer)]
    return declared, tir.BufferLoad(buffer, [_number(0)])


def _look(condition: Tensor, around: Surroundings, into: _Local, name: str) -> list[Any]:
    declared, value = _read(around.address(condition), "uint8", name)
    return [*declared, into.set(tir.Cast("int32", value))]


def branch(step: Branch, name: str, around: Surroundings, then: list[Any], other: list[Any]) -> list[Any]:
    """Statements of a branch whose parts are `then` and `other`."""
    taken = _Local(f"{name}_taken")
    parts = [tir.SeqStmt([*part, tir.Evaluate(_number(0))]) for part in (then, other)]
    look = _look(step.condition, around, taken, f"{name}_condition")
    return [taken.declaration, *look, around.meet, tir.IfThenElse(tir.NE(taken.value, _number(0)), *parts)]


def repeat(step: Repeat, name: str, around: Surroundings, body: list[Any]) -> list[Any]:
    """Statements of a loop around `body`."""
    turn, most, going = _Local(f"{name}_turn"), _Local(f"{name}_most"), _Local(f"{name}_going")
    before = [turn.declaration, most.declaration, going.declaration]
    before += [turn.set(_number(0)), going.set(_number(1)), *_limit(step, name, around, most)]
    look: list[Any] = []
    if step.condition is not None:
        before += _look(step.condition, around, going, f"{name}_first")
        look = [*_look(step.condition, around, going, f"{name}_condition"), around.meet]
    if step.condition is not None or isinstance(step.most, Tensor):
        before.append(around.meet)
    known = [
        tir.Bind(variable(step.turn), turn.value),
        tir.Bind(variable(step.turn, "int64"), tir.Cast("int64", turn.value)),
    ]
    inside = [*_in_room(step, turn, around), *known, *body, *look, turn.set(turn.value + 1)]
    goes_on = tir.And(turn.value < most.value, tir.NE(going.value, _number(0)))
    behind = _store(step.turns, f"{name}_turns", tir.Cast("int64", turn.value), around)
    return [*before, tir.While(goes_on, tir.SeqStmt(inside)), *behind]


def _limit(step: Repeat, name: str, around: Surroundings, most: _Local) -> list[Any]:
    if not isinstance(step.most, Tensor):
        bound = tir.const(_FOREVER, "int64") if step.most is None else around.value(step.most)
        return [most.set(tir.Cast("int32", tir.min(bound, tir.const(_FOREVER, "int64"))))]
    dtype = stored_type(step.most.dtype)
    declared, value = _read(around.address(step.most), dtype, f"{name}_count")
    bounded = tir.max(tir.min(value, tir.const(_FOREVER, dtype)), tir.const(0, dtype))
    return [*declared, most.set(tir.Cast("int32", bounded))]


def _in_room(step: Repeat, turn: _Local, around: Surroundings) -> list[Any]:
    """All threads leave where the memory for what a loop collects is full."""
    if step.room is None:
        return []
    leave = tir.SeqStmt([*around.fail(step.failure), tir.Return(_number(0))])
    return [tir.IfThenElse(turn.value >= _number(step.room), leave, None)]


def _store(target: Tensor | None, name: str, value: Any, around: Surroundings) -> list[Any]:
    """One thread writes an int64, and the others wait until it has."""
    if target is None:
        return []
    pointer = tir.Var(name, ir.PointerType(ir.PrimType("int64")))
    buffer = tir.decl_buffer((1,), "int64", name=f"{name}_b", data_alignment=8, layout=None)
    declared = [tir.Bind(pointer, around.address(target)), tir.DeclBuffer(buffer, data=pointer)]
    store = tir.BufferStore(buffer, value, [_number(0)])
    return [*declared, tir.IfThenElse(tir.EQ(around.thread, _number(0)), store, None), around.meet]
