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

__all__ = ["ROOM_EXCEEDED", "branch", "repeat"]

ROOM_EXCEEDED = 64  # the entry's status where a loop runs more or fewer turns than memory was made for
_FOREVER = 2**31 - 2


@dataclass(frozen=True)
class Surroundings:
    """What the entry gives: an address and an int64 expression, the barrier, and a thread's number."""

    address: Callable[[Tensor], Any]
    value: Callable[[Size], Any]
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
    inside = [*_fail_unless(_has_room, step, turn, around), *known, *body, *look, turn.set(turn.value + 1)]
    goes_on = tir.And(turn.value < most.value, tir.NE(going.value, _number(0)))
    behind = _written(step, name, turn, around) if step.turns else _fail_unless(_is_full, step, turn, around)
    return [*before, tir.While(goes_on, tir.SeqStmt(inside)), *behind]


def _limit(step: Repeat, name: str, around: Surroundings, most: _Local) -> list[Any]:
    if not isinstance(step.most, Tensor):
        bound = tir.const(_FOREVER, "int64") if step.most is None else around.value(step.most)
        return [most.set(tir.Cast("int32", tir.min(bound, tir.const(_FOREVER, "int64"))))]
    dtype = stored_type(step.most.dtype)
    declared, value = _read(around.address(step.most), dtype, f"{name}_count")
    bounded = tir.max(tir.min(value, tir.const(_FOREVER, dtype)), tir.const(0, dtype))
    return [*declared, most.set(tir.Cast("int32", bounded))]


def _has_room(turn: Any, room: Any) -> Any:
    return turn < room


def _is_full(turn: Any, room: Any) -> Any:
    return tir.EQ(turn, room)


def _fail_unless(holds: Any, step: Repeat, turn: _Local, around: Surroundings) -> list[Any]:
    """All threads leave where there are not the turns that memory was made for."""
    if step.room is None or (step.condition is None and step.most == step.room):
        return []
    fits = holds(tir.Cast("int64", turn.value), around.value(step.room))
    return [tir.IfThenElse(tir.Not(fits), tir.Return(_number(ROOM_EXCEEDED)), None)]


def _written(step: Repeat, name: str, turn: _Local, around: Surroundings) -> list[Any]:
    assert step.turns is not None
    pointer = tir.Var(f"{name}_turns", ir.PointerType(ir.PrimType("int64")))
    buffer = tir.decl_buffer((1,), "int64", name=f"{name}_turns_b", data_alignment=8, layout=None)
    declared = [tir.Bind(pointer, around.address(step.turns)), tir.DeclBuffer(buffer, data=pointer)]
    store = tir.BufferStore(buffer, tir.Cast("int64", turn.value), [_number(0)])
    return [*declared, tir.IfThenElse(tir.EQ(around.thread, _number(0)), store, None), around.meet]
