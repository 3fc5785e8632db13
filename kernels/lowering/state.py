"""The state of lowering one graph: what each value is, and the kernels so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import onnx_ir as ir

from gossamer.runtime.errors import ModelError, UnsupportedError

from ..cpu.isa import Isa
from ..cpu.lazy import Elementwise, Fill, Lazy, Leaf, Moved, broadcast_shapes, composed, weight_of
from ..cpu.pixel_layout import IMAGE_TYPES, pixel_strides, reads_by_pixel
from ..cpu.tensor import ITEM_BYTES, Tensor, contiguous
from ..dims import Size, fits, is_fixed
from ..program import LayerInfo
from .shape_values import Known, as_lazy, known_of, plain_array
from .sizes import Sizes
from .steps import Origins
from .tree import Step
from .weights import WeightPool

if TYPE_CHECKING:
    from .surveying import Survey
    from .ways import Tuner

__all__ = ["Lowering", "dtype_name", "filled_shape", "static_shape"]

_CHEAP = 2  # operations per element that are computed again rather than stored


def _unknown(value: ir.Value) -> UnsupportedError:
    """The error for a value that no rule defined."""
    node = value.producer()
    where = f"{node.op_type} node {node.name!r}" if node is not None else None
    return UnsupportedError("this output of the operator has no kernel", where=where, got=value.name)


def dtype_name(value: ir.Value, where: str) -> str:
    """numpy's name of a value's element type."""
    if value.dtype is None:
        raise ModelError("element type is unknown", where=where, got=value.name)
    try:
        name = "string" if value.dtype.is_string() else value.dtype.numpy().name
    except TypeError:  # it has no arrays of this type
        name = value.dtype.name.lower()
    if name not in ITEM_BYTES:
        raise UnsupportedError("element type is not supported", where=where, got=name)
    return name


def static_shape(value: ir.Value, where: str) -> tuple[int, ...]:
    """A value's shape; every dimension must be known."""
    if value.shape is None:
        raise UnsupportedError("shape is known only at run time", where=where, got=value.name)
    dims = tuple(d if isinstance(d, int) else None for d in value.shape)
    if None in dims:
        advice = "give --input-shape, if the dimension follows from an input's"
        raise UnsupportedError(
            "shape is known only at run time",
            where=where,
            got=f"{value.name}{list(value.shape)}",
            advice=advice,
        )
    return tuple(d for d in dims if d is not None)


def filled_shape(value: ir.Value, where: str) -> tuple[int, ...]:
    """A value's shape, which must hold at least one element: matrix kernels have no empty form."""
    shape = static_shape(value, where)
    if 0 in shape:
        advice = "give a larger --input-shape"
        raise UnsupportedError("empty at this input size", where=where, got=list(shape), advice=advice)
    return shape


class Storage(Protocol):
    """A format, or what else has kernels of its own in `encoded/`, by its name."""

    @property
    def name(self) -> str:
        """As files of `encoded/` are called."""


def _is_convolved(value: ir.Value) -> bool:
    """Whether integers are read by a convolution, as floats again."""
    readers = [use.node for use in value.uses() if use.node.op_type == "DequantizeLinear"]
    return any(use.node.op_type == "Conv" for node in readers for use in node.outputs[0].uses())


@dataclass(frozen=True)
class Encoded:
    """A compressed weight as the graph gives it.

    `parts` are decoded arrays by name; `nested` holds the parts that a format stores in turn. `transposed`
    says that the value is the transpose of what is decoded, as a MatMul weight [K, N] is, whose decoded form
    has its outputs first.
    """

    format: Storage
    parts: Mapping[str, np.ndarray]
    nested: Mapping[str, Encoded] = field(default_factory=dict)
    transposed: bool = False


@dataclass
class Lowering:
    """Steps are appended in order; `values` says what each graph value is."""

    isa: Isa
    pool: WeightPool = field(default_factory=WeightPool)
    values: dict[ir.Value, Lazy] = field(default_factory=dict)
    arrays: dict[ir.Value, np.ndarray] = field(default_factory=dict)
    known: dict[ir.Value, Known] = field(default_factory=dict)  # values computed from shapes
    equations: dict[ir.Value, tuple[Size, Size]] = field(default_factory=dict)  # true where both are equal
    steps: list[Step] = field(default_factory=list)
    origins: Origins = field(default_factory=Origins)  # of the kernels in `steps`
    absorbed: set[ir.Node] = field(default_factory=set)  # computed by the epilogue of an earlier kernel
    layers: list[LayerInfo] = field(default_factory=list)
    encoded: dict[ir.Value, Encoded] = field(default_factory=dict)  # how a constant of `arrays` is stored
    turned: dict[int, tuple[Tensor, Tensor]] = field(
        default_factory=dict
    )  # id(t) -> t, its feature-major copy
    integer_nodes: set[ir.Node] = field(default_factory=set)  # Q and DQ nodes that integer kernels took
    float_reasons: dict[ir.Node, str] = field(default_factory=dict)  # why a Q or DQ node stays
    sizes: Sizes = field(default_factory=Sizes)  # what is known of sizes that come with a run
    tuner: Tuner | None = None  # measures ways to compute a layer; without one the estimate decides
    survey: Survey | None = None  # takes note of what cannot be lowered; without one that is an error

    def trial(self) -> Lowering:
        """A state that knows the same values, for kernels that are only to be tried."""
        return replace(
            self,
            pool=WeightPool(),
            values=dict(self.values),
            steps=[],
            absorbed=set(self.absorbed),
            layers=[],
            turned=dict(self.turned),
            tuner=None,
        )

    # ---- reading ----------------------------------------------------------------------------
    def constant(self, value: ir.Value | None) -> np.ndarray | None:
        """The value's array when it is known at compile time."""
        return None if value is None else self.arrays.get(value)

    def learn(self, value: ir.Value, known: Known) -> None:
        """States that a value is a tensor of sizes; of plain numbers, it is a constant."""
        self.known[value] = known
        array = plain_array(known)
        if array is not None:
            self.arrays[value] = array

    def integers(self, value: ir.Value | None) -> tuple[Size, ...] | None:
        """The elements of a tensor of sizes, where they are known when the model is compiled or opened."""
        known = known_of(self, value)
        if known is None or known.is_float:
            return None
        return tuple(known.values.reshape(-1).tolist())

    def lazy(self, value: ir.Value) -> Lazy:
        """The value as an expression; constants of one element become literals."""
        if value not in self.values and value not in self.arrays and value in self.known:
            self.values[value] = as_lazy(self.known[value])
        if value not in self.values and value not in self.arrays:
            raise _unknown(value)
        if value not in self.values:
            array = self.arrays[value]
            if array.size == 1:
                self.values[value] = Fill(array.reshape(-1)[0].item(), str(array.dtype), array.shape)
            else:
                self.values[value] = Leaf(self.pool.add(value.name or "constant", array))
        return self.values[value]

    def tensor(self, value: Lazy, name: str = "t", *, by_pixel: bool = False) -> Tensor:
        """The value in memory, computed by a kernel of its own where it is not there yet.

        Integer images lie pixel-major if they are computed from such, or if that is asked for.
        """
        if isinstance(value, Leaf):
            return value.tensor
        by_pixel = by_pixel and len(value.shape) == 4 and value.dtype in IMAGE_TYPES
        strides = pixel_strides(value.shape) if by_pixel or reads_by_pixel(self.isa, value) else None
        out = self.new_tensor(name, value.dtype, value.shape, strides)
        self.compute(value, out)
        return out

    def compute(self, value: Lazy, out: Tensor) -> None:
        """Appends the kernel that writes the value to `out`."""
        from .computing import kernel_for  # it stores operands of its kernels, by this module

        if 0 in out.shape:
            return
        self.steps.append(kernel_for(self, value, out))

    def dense(self, value: Lazy, name: str = "t") -> Tensor:
        """The value in memory, row-major without gaps."""
        tensor = self.tensor(value, name)
        return tensor if tensor.is_contiguous else self.copy(tensor)

    def stored(self, value: ir.Value) -> Tensor:
        """The value in memory, row-major, even when it is a constant of one element."""
        array = self.arrays.get(value)
        if array is not None:
            return self.pool.add(value.name or "constant", array)
        return self.dense(self.lazy(value), value.name or "t")

    def copy(self, tensor: Tensor) -> Tensor:
        """A row-major copy in the arena."""
        out = self.new_tensor(tensor.name, tensor.dtype, tensor.shape)
        self.compute(Leaf(tensor), out)
        return out

    # ---- writing ----------------------------------------------------------------------------
    def new_tensor(
        self, name: str, dtype: str, shape: Sequence[Size], strides: Sequence[Size] | None = None
    ) -> Tensor:
        """A new arena tensor."""
        shape = tuple(shape)
        return Tensor(name, dtype, shape, tuple(strides) if strides else contiguous(shape), "arena")

    def define(self, value: ir.Value, lazy: Lazy) -> None:
        """States what `value` is; it is computed now if more than one node needs it."""
        if value.dtype is not None and not isinstance(lazy, Fill):
            lazy = self._checked(value, lazy)
        if not isinstance(lazy, Leaf | Fill) and len(value.uses()) > 1:
            lazy = Leaf(self.tensor(lazy, value.name or "t", by_pixel=_is_convolved(value)))
        self.values[value] = lazy

    def _checked(self, value: ir.Value, lazy: Lazy) -> Lazy:
        """Shape inference and lowering must agree: a difference is our mistake or a wrong model."""
        if value.shape is not None:
            declared = [d if isinstance(d, int) else None for d in value.shape]
            agrees = len(declared) == len(lazy.shape) and all(
                d is None or d == n or not is_fixed(n) for d, n in zip(declared, lazy.shape, strict=True)
            )
            if not agrees:
                raise ModelError(
                    "the declared shape is wrong", where=value.name, expected=list(lazy.shape), got=declared
                )
        return lazy

    def broadcast(self, shapes: Sequence[tuple[Size, ...]], where: str) -> tuple[Size, ...]:
        """numpy's broadcast of shapes; whether open sizes are equal is checked when a run starts."""
        result = broadcast_shapes(shapes)
        for shape in shapes:
            for size, whole in zip(reversed(shape), reversed(result), strict=False):
                if size != 1 and size != whole:
                    self.sizes.equal(size, whole, f"{where}: sizes differ")
        return result

    def elementwise(self, function: str, args: Sequence[Lazy], dtype: str, **options: Any) -> Lazy:
        """An elementwise function; what would be recomputed by a broadcast is stored first."""
        self.broadcast([a.shape for a in args], function)
        result = Elementwise(function, tuple(args), dtype, tuple(sorted(options.items())))
        stored = tuple(self._stored_if_spread(a, result.shape) for a in args)
        return composed(function, stored, dtype, tuple(sorted(options.items())))

    def _stored_if_spread(self, value: Lazy, shape: tuple[Size, ...]) -> Lazy:
        small = isinstance(value, Leaf | Fill) or fits(prod(shape), prod(value.shape))
        return value if small or weight_of(value) == 0 else Leaf(self.tensor(value))

    def moved(
        self,
        sources: Sequence[Lazy],
        shape: Sequence[Size],
        pick: Any,
        *label: Any,
        conditional: bool = False,
    ) -> Lazy:
        """Elements taken from other places; sources costlier than a few operations are stored first."""
        sources = tuple(s if weight_of(s) <= _CHEAP else Leaf(self.tensor(s)) for s in sources)
        # `pick` receives the sources that were really used
        return Moved(
            sources,
            tuple(shape),
            sources[0].dtype,
            lambda scope, index: pick(sources, scope, index),
            label,
            conditional,
        )
