"""Branches and loops of the entry, as TIR around calls of kernels.

Every thread runs the same calls and decides for itself, by the same values: it reads a condition into a
variable of its own behind the barrier of the kernel that wrote it, and meets the others before anybody may
write it again. A meeting inside a branch or loop is not one of those that a profiler counts: that is why
one thread alone leaves them out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import ir
from tvm import tirx as tir

from ..cpu.tensor import Tensor, stored_type
from ..dims import variable
from .tree import Branch, Repeat

__all__ = ["ROOM_EXCEEDED", "branch", "repeat"]

ROOM_EXCEEDED = 64  # the entry's status where a loop runs more or fewer turns than memory was made for
_FOREVER = 2**31 - 2
Address = Callable[[Tensor, str], Any]


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


def _look(condition: Tensor, address: Address, into: _Local, name: str) -> list[Any]:
    declared, value = _read(address(condition), "uint8", name)
    return [*declared, into.set(tir.Cast("int32", value))]


def branch(step: Branch, name: str, address: Any, meet: Any, then: list[Any], other: list[Any]) -> list[Any]:
    """Statements of a branch whose parts are `then` and `other`; `meet` is the barrier."""
    taken = _Local(f"{name}_taken")
    parts = [tir.SeqStmt([*part, tir.Evaluate(_number(0))]) for part in (then, other)]
    look = _look(step.condition, address, taken, f"{name}_condition")
    return [taken.declaration, *look, meet, tir.IfThenElse(tir.NE(taken.value, _number(0)), *parts)]


def repeat(step: Repeat, name: str, address: Any, meet: Any, body: list[Any]) -> list[Any]:
    """Statements of a loop around `body`; `meet` is the barrier."""
    turn, most, going = _Local(f"{name}_turn"), _Local(f"{name}_most"), _Local(f"{name}_going")
    before = [turn.declaration, most.declaration, going.declaration]
    before += [turn.set(_number(0)), going.set(_number(1)), *_limit(step, name, address, most)]
    look: list[Any] = []
    if step.condition is not None:
        before += _look(step.condition, address, going, f"{name}_first")
        look = [*_look(step.condition, address, going, f"{name}_condition"), meet]
    if step.condition is not None or isinstance(step.most, Tensor):
        before.append(meet)
    known = [
        tir.Bind(variable(step.turn), turn.value),
        tir.Bind(variable(step.turn, "int64"), tir.Cast("int64", turn.value)),
    ]
    inside = [*_within(step, turn), *known, *body, *look, turn.set(turn.value + 1)]
    goes_on = tir.And(turn.value < most.value, tir.NE(going.value, _number(0)))
    return [*before, tir.While(goes_on, tir.SeqStmt(inside)), *_exactly(step, turn)]


def _limit(step: Repeat, name: str, address: Any, most: _Local) -> list[Any]:
    if not isinstance(step.most, Tensor):
        return [most.set(_number(_FOREVER if step.most is None else min(step.most, _FOREVER)))]
    dtype = stored_type(step.most.dtype)
    declared, value = _read(address(step.most), dtype, f"{name}_count")
    return [*declared, most.set(tir.Cast("int32", tir.min(value, tir.const(_FOREVER, dtype))))]


def _within(step: Repeat, turn: _Local) -> list[Any]:
    """All threads leave where the memory of what a loop collects is full."""
    if step.room is None or (isinstance(step.most, int) and step.most <= step.room):
        return []
    return [tir.IfThenElse(turn.value >= _number(step.room), tir.Return(_number(ROOM_EXCEEDED)), None)]


def _exactly(step: Repeat, turn: _Local) -> list[Any]:
    if not step.exact or step.room is None or (step.condition is None and step.most == step.room):
        return []
    return [tir.IfThenElse(tir.NE(turn.value, _number(step.room)), tir.Return(_number(ROOM_EXCEEDED)), None)]
