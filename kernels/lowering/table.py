"""The table of a program whose sizes are known when it runs: int64 numbers at the head of the arena.

Number 0 is the bytes of the arena for one thread, number 1 what each further thread needs behind it. Then
come the symbols: those of inputs, which the caller fills in, and measured ones, which kernels write. Then
offsets in the arena, and dimensions of outputs.

    int32_t gossamer_sizes_NAME(int64_t *table)

checks the symbols and fills in everything else; number 0 is -(k + 1) afterwards where guard k is violated.
The last guards are found to be violated by the entry only, which then writes the same and leaves.
Measured sizes stand for the most they can be until the program has run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tvm import ir
from tvm import tirx as tir

from ..dims import Dim, Operation, Size, Symbol, evaluated, symbol, symbols_of
from .sizes import MOST_ELEMENTS, Guard, Sizes

__all__ = ["Table", "loads", "sizes_function"]

ITEM = 8
_SYMBOLS = 2  # the first number behind those of the arena
_MOST_ARENA = 2**47
_TOO_LARGE = Guard(0, "<=", 0, "the sizes are too large")
_NOT_EXACT = float(2**62)


@dataclass
class Table:
    """Numbers by the name of the symbol that stands for them, and the formulas of those that are computed."""

    sizes: Sizes
    slots: dict[str, int] = field(default_factory=dict)
    formulas: list[tuple[int, Size]] = field(default_factory=list)
    written: list[tuple[int, Size]] = field(default_factory=list)  # by the entry, when all kernels have run
    places: dict[Dim, int] = field(default_factory=dict)  # of outputs' dimensions
    guards: list[Guard] = field(default_factory=list)

    @classmethod
    def of(cls, sizes: Sizes) -> Table:
        """With the symbols of inputs, then those that are measured."""
        names = [*sizes.inputs, *sizes.measured]
        table = cls(sizes, {name: _SYMBOLS + i for i, name in enumerate(names)})
        table.formulas = [(table.slots[name], size) for name, size in sizes.measured.items()]
        return table

    @property
    def count(self) -> int:
        """How many numbers there are."""
        return _SYMBOLS + len(self.slots) if self.slots or self.sizes.failures else 0

    def number(self, stem: str, size: Size) -> Size:
        """A new number; the symbol that stands for it."""
        name = f"{stem} {len(self.slots)}"
        while name in self.slots:
            name += "'"
        self.slots[name] = self.count or _SYMBOLS
        self.formulas.append((self.slots[name], size))
        return symbol(name, 0)

    def dimension(self, size: Size) -> int:
        """Where an output's dimension stands; -1 for one that is fixed."""
        if not isinstance(size, Dim):
            return -1
        if size not in self.places:
            self.places[size] = self._dimension(size)
        return self.places[size]

    def _dimension(self, size: Size) -> int:
        names = [s.name for s in symbols_of(size)]
        if str(size) in self.slots:
            return self.slots[str(size)]
        self.number("dimension", self.sizes.capacity(size))
        place = self.count - 1
        if any(name in self.sizes.measured for name in names):
            self.written.append((place, size))
        return place

    def mark(self, text: str) -> int:
        """What number 0 becomes where a run fails for this reason, one of `sizes.failures`."""
        return -1 - [guard.text for guard in self.guards].index(text)

    def check(self, tensors: Iterable[Size]) -> None:
        """Guards for the numbers of elements of all tensors."""
        found = {self.sizes.capacity(size): None for size in tensors}
        for size in found:
            self.sizes.limit(size, MOST_ELEMENTS, "a tensor has more than 2,147,483,647 elements")


def loads(table: Any, slots: Mapping[str, int]) -> dict[str, Any]:
    """Expressions of all symbols, read from an int64 buffer."""
    return {name: tir.BufferLoad(table, [tir.IntImm("int32", slot)]) for name, slot in slots.items()}


def sizes_function(table: Table, arena: Size, scratch: Size) -> Any:
    """The function that checks a table and fills it in; number 0 tells how that went. Sets `table.guards`."""
    return _SizesFunction(table).build(arena, scratch)


class _SizesFunction:
    def __init__(self, table: Table) -> None:
        self.table = table
        self.handle = tir.Var("table", ir.PointerType(ir.PrimType("int64")))
        self.numbers = tir.decl_buffer((1 << 30,), "int64", name="numbers", data_alignment=ITEM, layout=None)
        self.body: list[Any] = [tir.DeclBuffer(self.numbers, data=self.handle)]
        self.known = loads(self.numbers, table.slots)
        self.exact: set[Dim] = set()

    def build(self, arena: Size, scratch: Size) -> Any:
        table = self.table
        guards = [*_bounds(table), *table.sizes.guards]
        table.guards = [*guards, _TOO_LARGE, *(Guard(0, "<=", 0, text) for text in table.sizes.failures)]
        for place, guard in enumerate(guards):
            self.require_exact(guard.left, guard.right)
            self.refuse(place, tir.Not(_holds(guard, self.value(guard.left), self.value(guard.right))))
        for slot, size in (*table.formulas, (1, scratch), (0, arena)):
            self.require_exact(size)
            self.store(slot, self.value(size))
        self.refuse(len(guards), self.number(0) > tir.const(_MOST_ARENA, "int64"))
        body = tir.SeqStmt([*self.body, tir.Return(tir.IntImm("int32", 0))])
        return tir.PrimFunc([self.handle], body, ret_type=ir.PrimType("int32"))

    def number(self, slot: int) -> Any:
        return tir.BufferLoad(self.numbers, [tir.IntImm("int32", slot)])

    def value(self, size: Size) -> Any:
        found = evaluated(size, self.known)
        return tir.const(found, "int64") if isinstance(found, int) else found

    def store(self, slot: int, value: Any) -> None:
        self.body.append(tir.BufferStore(self.numbers, value, [tir.IntImm("int32", slot)]))

    def refuse(self, guard: int, condition: Any) -> None:
        mark = tir.BufferStore(self.numbers, tir.const(-1 - guard, "int64"), [tir.IntImm("int32", 0)])
        leave = tir.SeqStmt([mark, tir.Return(tir.IntImm("int32", 0))])
        self.body.append(tir.IfThenElse(condition, leave, None))

    def require_exact(self, *sizes: Size) -> None:
        """Refuses sizes whose computation would leave int64: products of symbols."""
        for size in sizes:
            if isinstance(size, Dim) and size not in self.exact and _grows(size):
                self.exact.add(size)
                too_large = _magnitude(size, self.known) > tir.const(_NOT_EXACT, "float64")
                self.refuse(self.table.guards.index(_TOO_LARGE), too_large)


def _bounds(table: Table) -> list[Guard]:
    """What a run may bring of each input's symbol."""
    found = []
    for name, one in table.sizes.inputs.items():
        size: Any = Dim({(one,): 1})
        free = symbol(name, -MOST_ELEMENTS)  # nothing is known of it yet
        found.append(Guard(one.least, "<=", free, f"{name} is less than {one.least}"))
        most = MOST_ELEMENTS if one.most is None else one.most
        found.append(Guard(size, "<=", most, f"{name} is more than {most}"))
    return found


def _holds(guard: Guard, left: Any, right: Any) -> Any:
    return tir.EQ(left, right) if guard.relation == "==" else left <= right


def _grows(size: Dim) -> bool:
    """Whether it may leave int64 although symbols are less than 2^31."""
    for monomial, factor in size.terms:
        if len(monomial) > 1 or abs(factor) >= 2**24:
            return True
        for atom in monomial:
            if not isinstance(atom, Symbol) and (_grows(atom.left) or _grows(atom.right)):
                return True
    return False


def _magnitude(size: Dim, known: Mapping[str, Any]) -> Any:
    """A float64 expression that no intermediate result exceeds."""
    total: Any = tir.const(0.0, "float64")
    for monomial, factor in size.terms:
        value: Any = tir.const(float(abs(factor)), "float64")
        for atom in monomial:
            value = value * _atom_magnitude(atom, known)
        total = total + value
    return total


def _atom_magnitude(atom: Symbol | Operation, known: Mapping[str, Any]) -> Any:
    if isinstance(atom, Symbol):
        return tir.Cast("float64", known[atom.name])
    return tir.max(_magnitude(atom.left, known), _magnitude(atom.right, known))
