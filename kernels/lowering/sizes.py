"""Sizes that a program learns when it runs: where each comes from, and what must hold of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from gossamer.runtime.errors import ModelError

from ..cpu.tensor import Tensor
from ..dims import Dim, Size, Symbol, UndecidedError, at_most, fits, is_fixed, symbol, symbols_of

__all__ = ["MOST_ELEMENTS", "Guard", "Sizes"]

MOST_ELEMENTS = 2**31 - 1  # of a tensor: kernels count them in int32


@dataclass(frozen=True)
class Guard:
    """`left` must equal `right`, or be at most that, when a run starts; `text` says why."""

    left: Size
    relation: str  # "==" or "<="
    right: Size
    text: str


@dataclass
class Sizes:
    """Sizes by name; those of `inputs` come with them, `measured` says how large others can be.

    Measured ones are written by kernels to their place in the table (`tables`) while the model runs.
    """

    inputs: dict[str, Symbol] = field(default_factory=dict)
    measured: dict[str, Size] = field(default_factory=dict)
    tables: dict[str, Tensor] = field(default_factory=dict)
    guards: dict[Guard, None] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)  # what a run may find while the model runs

    def measure(self, name: str, capacity: Size) -> tuple[Size, Tensor]:
        """A size that a kernel finds, of 0 to `capacity`, and the int64 scalar that the kernel writes."""
        while name in self.measured or name in self.inputs:
            name += "_"
        self.measured[name] = at_most(capacity, self.measured)
        self.tables[name] = Tensor(name, "int64", (), (), "table")
        most = self.measured[name]
        return symbol(name, 0, most if isinstance(most, int) else None), self.tables[name]

    def equal(self, a: Size, b: Size, text: str) -> Size:
        """The one size that both must be; checked when a run starts where that is not known now."""
        if a == b:
            return a
        if is_fixed(a, b):
            raise ModelError("sizes do not fit", where=text, expected=a, got=b)
        if any(s.name in self.measured for s in symbols_of(a, b)):
            raise UndecidedError("whether sizes are equal depends on data", where=text, expected=a, got=b)
        self.guards[Guard(a, "==", b, text)] = None
        return a if isinstance(a, int) else b

    def limit(self, size: Size, most: Size, text: str) -> None:
        """`size` must be at most `most`."""
        size, most = at_most(size, self.measured), -1 * at_most(-1 * most, self.measured)
        if fits(size, most):
            return
        if is_fixed(size, most):
            raise ModelError("a size is out of range", where=text, expected=f"at most {most}", got=size)
        self.guards[Guard(size, "<=", most, text)] = None

    def not_negative(self, size: Size, text: str) -> Size:
        """A size that was computed: less than none is refused."""
        if isinstance(size, Dim) or size < 0:
            self.limit(0, size, text)
        return size

    def capacity(self, size: Size) -> Size:
        """The most that it can be in a run whose inputs are known."""
        return at_most(size, self.measured)

    def broadcast(self, a: Size, b: Size, text: str) -> Size:
        """numpy's rule for one axis: 1 gives way; a symbol that is 1 in some run does not."""
        if a == b or b == 1:
            return a
        return b if a == 1 else self.equal(a, b, text)
