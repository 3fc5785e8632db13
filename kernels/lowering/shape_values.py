"""Values that are computed from shapes when a model is compiled: small tensors of sizes.

Between `Shape` and the operator that takes a shape, exporters write chains of Gather, Concat, Mul and the
like. They are computed here on arrays whose elements are sizes (`kernels/dims.py`), truth values, or exact
ratios of sizes where the model computes in floats. What cannot be computed so is left to the kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ..cpu.lazy import Lazy
from ..cpu.size_values import SizeValues
from ..dims import Dim, Size, UndecidedError, is_fixed
from .ratio import Ratio, ratio_of

if TYPE_CHECKING:
    from .state import Lowering

__all__ = ["Known", "NotKnownError", "as_lazy", "computed_shapes", "computes", "known_of", "plain_array"]

MOST_ELEMENTS = 4096
_TYPES = ("int64", "int32", "bool", "float32", "float64")
Function = Callable[["Arguments"], "Sequence[Known] | Known"]
_FUNCTIONS: dict[str, Function] = {}


class NotKnownError(Exception):
    """The result is left to the kernels."""


@dataclass(frozen=True, eq=False)
class Known:
    """A tensor of sizes: `values` is an object array of int, Dim, bool or Ratio, `dtype` numpy's name."""

    dtype: str
    values: np.ndarray

    @property
    def is_float(self) -> bool:
        return self.dtype.startswith("float")


@dataclass(frozen=True)
class Arguments:
    """A node and what its inputs are; None for those that are absent."""

    state: Lowering
    node: ir.Node
    inputs: Sequence[Known | None]

    def __getitem__(self, position: int) -> Known:
        found = self.inputs[position] if position < len(self.inputs) else None
        if found is None:
            raise NotKnownError
        return found

    def numbers(self, position: int) -> list[int] | None:
        """An input of plain numbers; None where it is absent."""
        if position >= len(self.inputs) or self.inputs[position] is None:
            return None
        values = self[position].values.reshape(-1)
        if not all(isinstance(v, int) for v in values):
            raise NotKnownError
        return [int(v) for v in values]


def computes(*operators: str) -> Callable[[Function], Function]:
    """Declares that a function computes operators on sizes; it raises NotKnownError where it cannot."""

    def register(function: Function) -> Function:
        _FUNCTIONS.update(dict.fromkeys(operators, function))
        return function

    return register


def computed_shapes(state: Lowering, node: ir.Node) -> bool:
    """Computes the node's outputs where its inputs are sizes; whether that was so."""
    from . import shape_arithmetic, shape_movement  # noqa: F401  # their functions register themselves

    function = _FUNCTIONS.get(node.op_type)
    if function is None or not any(value in state.known for value in node.inputs):
        return False
    inputs = [known_of(state, value) for value in node.inputs]
    if any(value is not None and known is None for value, known in zip(node.inputs, inputs, strict=True)):
        return False
    try:
        found = function(Arguments(state, node, inputs))
    except (NotKnownError, UndecidedError, ArithmeticError, ValueError):
        _note_equation(state, node, inputs)
        return False
    outputs = [found] if isinstance(found, Known) else found
    for value, known in zip(node.outputs, outputs, strict=True):
        if known.values.size > MOST_ELEMENTS:
            return False
        state.learn(value, known)
    return True


def _note_equation(state: Lowering, node: ir.Node, inputs: Sequence[Known | None]) -> None:
    """What must be equal for the result of an Equal of two sizes to be true."""
    if node.op_type == "Equal" and all(x is not None and x.values.size == 1 for x in inputs):
        first, second = (x.values.reshape(-1)[0] for x in inputs if x is not None)
        state.equations[node.outputs[0]] = (first, second)


def known_of(state: Lowering, value: ir.Value | None) -> Known | None:
    """A value as sizes, where it is known and small."""
    if value is None:
        return None
    if value in state.known:
        return state.known[value]
    array = state.arrays.get(value)
    if array is None or array.size > MOST_ELEMENTS or str(array.dtype) not in _TYPES:
        return None
    values = np.empty(array.shape, object)
    try:
        items = [_element(item, str(array.dtype)) for item in array.reshape(-1).tolist()]
    except (ArithmeticError, ValueError):
        return None
    values.reshape(-1)[:] = items
    return Known(str(array.dtype), values)


def _element(item: Any, dtype: str) -> Any:
    return ratio_of(item) if dtype.startswith("float") else item


def plain_array(known: Known) -> np.ndarray | None:
    """The numbers, where all are."""
    items = known.values.reshape(-1).tolist()
    if not all(is_fixed(i.numerator) if isinstance(i, Ratio) else not isinstance(i, Dim) for i in items):
        return None
    plain = [i.numerator / i.denominator if isinstance(i, Ratio) else i for i in items]
    return np.array(plain, known.dtype).reshape(known.values.shape)


def as_lazy(known: Known) -> Lazy:
    """The sizes as a value that kernels compute."""
    items = [i if isinstance(i, Ratio) else Ratio(i) for i in known.values.reshape(-1).tolist()]
    below = tuple(item.denominator for item in items)
    return SizeValues(tuple(item.numerator for item in items), below, known.dtype, known.values.shape)


def sizes_array(sizes: Sequence[Size], shape: Sequence[int] | None = None) -> np.ndarray:
    """An object array of sizes."""
    values = np.empty(len(sizes), object)
    values[:] = list(sizes)
    return values if shape is None else values.reshape(shape)
