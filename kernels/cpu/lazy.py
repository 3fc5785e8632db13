"""Values that are described but not yet computed: the inside of a fused kernel.

A lazy value is an expression of its element at an index. Elementwise operators, broadcasts and movements of
data (transpose, slice, pad, gather …) stay lazy and melt into the kernel that needs them; a kernel that is
worth a pass over memory ends in a `Tensor`, which is a leaf here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..dims import Size
from .arithmetic import FUNCTIONS
from .builder import Builder, Pointer, constant, int32
from .element_types import computed_type, from_memory
from .isa import Isa
from .tensor import Tensor

__all__ = [
    "Elementwise",
    "Fill",
    "Lazy",
    "Leaf",
    "Moved",
    "Scope",
    "composed",
    "leaves",
    "sharing",
    "weight_of",
]

Index = list[Any]


@dataclass
class Scope:
    """Where lazy values are evaluated: the function under construction and the pointers of its leaves."""

    builder: Builder
    pointers: dict[int, Pointer]  # id(Tensor) -> pointer

    @property
    def isa(self) -> Isa:
        return self.builder.isa

    def load(self, tensor: Tensor, offset: Any, lanes: int = 1) -> Any:
        """`tensor`'s value(s) at a flat offset, in the type that they are computed in."""
        word = self.pointers[id(tensor)].load(offset, lanes)
        return from_memory(self.builder, word, tensor.dtype)


class Lazy(ABC):
    """A value of `shape` and numpy `dtype`, computed element by element where it is used."""

    shape: tuple[Size, ...]
    dtype: str

    @abstractmethod
    def at(self, scope: Scope, index: Index) -> Any:
        """The element at `index`, one expression per axis."""

    @abstractmethod
    def parts(self) -> Sequence[Lazy]:
        """Lazy values this one is made of."""

    @property
    @abstractmethod
    def key(self) -> tuple[Any, ...]:
        """Equal for values that generate equal code, leaves counted by their order."""


def leaves(*values: Lazy) -> list[Tensor]:
    """Tensors that evaluation reads, each once, in a fixed order."""
    found: dict[int, Tensor] = {}
    for leaf in _leaves(values):
        found.setdefault(id(leaf.tensor), leaf.tensor)
    return list(found.values())


def _leaves(values: Sequence[Lazy]) -> Iterator[Leaf]:
    for value in values:
        if isinstance(value, Leaf):
            yield value
        yield from _leaves(value.parts())


def sharing(tensors: Sequence[Tensor], *values: Lazy) -> tuple[int, ...]:
    """Which of `tensors` each leaf is: two uses of one tensor are other code than uses of two."""
    order = {id(t): i for i, t in enumerate(tensors)}
    return tuple(order[id(leaf.tensor)] for leaf in _leaves(values))


def weight_of(value: Lazy) -> int:
    """Rough cost of evaluating one element, in operations: decides what is worth computing twice."""
    own = value.cost if isinstance(value, Elementwise) else 0
    return own + sum(weight_of(part) for part in value.parts())


@dataclass(eq=False)
class Leaf(Lazy):
    """A tensor in memory."""

    tensor: Tensor

    @property
    def shape(self) -> tuple[Size, ...]:  # type: ignore[override]
        return self.tensor.shape

    @property
    def dtype(self) -> str:  # type: ignore[override]
        return self.tensor.dtype

    @property
    def key(self) -> tuple[Any, ...]:
        return ("leaf", self.tensor.dtype, self.tensor.shape, self.tensor.strides)

    def parts(self) -> Sequence[Lazy]:
        return ()

    def at(self, scope: Scope, index: Index) -> Any:
        return scope.load(self.tensor, scope.builder.simplify(self.offset(index)))

    def offset(self, index: Index) -> Any:
        """Flat offset of an index, in elements."""
        total: Any = int32(0)
        for i, n, s in zip(index, self.tensor.shape, self.tensor.strides, strict=True):
            if n != 1:
                total = total + i * s
        return total


@dataclass(eq=False)
class Fill(Lazy):
    """One constant everywhere."""

    value: float | int | bool
    dtype: str
    shape: tuple[Size, ...] = ()

    @property
    def key(self) -> tuple[Any, ...]:
        return ("fill", repr(self.value), self.dtype)

    def parts(self) -> Sequence[Lazy]:
        return ()

    def at(self, scope: Scope, index: Index) -> Any:
        return constant(self.value, computed_type(self.dtype))


@dataclass(eq=False)
class Elementwise(Lazy):
    """`FUNCTIONS[function]` of broadcast arguments (numpy's rules)."""

    function: str
    args: tuple[Lazy, ...]
    dtype: str
    options: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        self.shape = broadcast_shapes([a.shape for a in self.args])

    @property
    def cost(self) -> int:
        return FUNCTIONS[self.function].cost

    @property
    def key(self) -> tuple[Any, ...]:
        return ("ew", self.function, self.dtype, self.options, *(a.key for a in self.args))

    def parts(self) -> Sequence[Lazy]:
        return self.args

    def at(self, scope: Scope, index: Index) -> Any:
        return self.apply(scope, [a.at(scope, broadcast_index(index, a.shape)) for a in self.args])

    def apply(self, scope: Scope, values: Sequence[Any]) -> Any:
        """The function of already evaluated arguments (scalars or vectors)."""
        return FUNCTIONS[self.function].emit(scope.builder, list(values), dict(self.options), self.dtype)


def composed(
    function: str, args: Sequence[Lazy], dtype: str, options: tuple[tuple[str, Any], ...] = ()
) -> Elementwise:
    """The elementwise function of `args`; x · σ(x), which exporters write in two nodes, as one Swish."""
    if function == "Mul" and dtype == "float32" and len(args) == 2:
        for x, gate in (args, reversed(args)):
            if isinstance(gate, Elementwise) and gate.function == "Sigmoid" and gate.args[0] is x:
                return Elementwise("Swish", (x,), dtype)
    return Elementwise(function, tuple(args), dtype, options)


def broadcast_shapes(shapes: Sequence[tuple[Size, ...]]) -> tuple[Size, ...]:
    """numpy's broadcast of shapes, zero extents included.

    Of sizes that must be the same, numbers stand for symbols; `Lowering.broadcast` has that checked.
    """
    rank = max((len(s) for s in shapes), default=0)
    result: list[Size] = []
    for axis in range(rank):
        sizes = [s[axis - rank + len(s)] for s in shapes if axis - rank + len(s) >= 0]
        sizes = [n for n in sizes if n != 1] or [1]
        result.append(next((n for n in sizes if isinstance(n, int)), sizes[0]))
    return tuple(result)


def broadcast_index(index: Index, shape: tuple[Size, ...]) -> Index:
    """The index into a broadcast operand of `shape`."""
    own = index[len(index) - len(shape) :]
    return [int32(0) if n == 1 else i for i, n in zip(own, shape, strict=True)]


@dataclass(eq=False)
class Moved(Lazy):
    """Elements of other values at computed places: `pick(scope, index)` gives the element.

    `label` must name everything that `pick` depends on beside its sources.
    """

    sources: tuple[Lazy, ...]
    shape: tuple[Size, ...]
    dtype: str
    pick: Callable[[Scope, Index], Any]
    label: tuple[Any, ...]
    conditional: bool = False  # the element is chosen by comparing indices

    @property
    def key(self) -> tuple[Any, ...]:
        return ("moved", self.shape, self.dtype, self.label, *(s.key for s in self.sources))

    def parts(self) -> Sequence[Lazy]:
        return self.sources

    def at(self, scope: Scope, index: Index) -> Any:
        return self.pick(scope, index)
