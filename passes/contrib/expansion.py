"""Writes the standard operators that take the place of one node.

Reshapes copy sizes (0) and infer one (-1) rather than name them, so that symbolic sizes stay symbolic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ..low_rank.constants import add_constant
from ..quantized.writing import Refused, Writer, constant_of

__all__ = ["Array", "Expansion", "Refused", "constant_of"]

Array = np.ndarray[Any, Any]


class Expansion(Writer):
    """A writer whose nodes are calls: `op("Add", a, b)`."""

    def __init__(self, node: ir.Node, model: ir.Model) -> None:
        super().__init__(node, model)
        self._top = model.graph

    def op(self, operator: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """A new standard node's first output."""
        given = list(inputs)
        while given and given[-1] is None:
            given.pop()
        return self.add(operator, given, attributes)

    # ---- constants --------------------------------------------------------------------------
    def constant(self, label: str, array: Array) -> ir.Value:
        """A new initializer of the whole model, since initializers of inner graphs are not known to all."""
        value = add_constant(self._top, f"{self.node.name}_{label}", array)
        self._constants.append(value)
        return value

    def integers(self, *values: int) -> ir.Value:
        """An int64 vector."""
        return self.constant("integers", np.asarray(values, np.int64))

    def number(self, value: float, like: ir.Value) -> ir.Value:
        """A scalar of the type of `like`."""
        if like.dtype is None:
            raise Refused("the type of its input is not known")
        return self.constant("number", np.asarray(value, like.dtype.numpy()))

    # ---- what is known of the node ----------------------------------------------------------
    def flag(self, name: str, default: int = 0) -> bool:
        """An INT attribute that is 0 or 1."""
        return bool(self.node.attributes.get_int(name, default))

    def wanted(self, position: int) -> bool:
        """Whether an output is there and read."""
        if position >= len(self.node.outputs):
            return False
        value = self.node.outputs[position]
        return bool(value.name) and (bool(value.uses()) or value.is_graph_output())

    def refuse_outputs(self, *positions: int) -> None:
        """Raises Refused where somebody reads one of these outputs."""
        for position in positions:
            if self.wanted(position):
                raise Refused(f"its output {position} has no form in standard operators")

    def refuse_inputs(self, *positions: int) -> None:
        """Raises Refused where one of these inputs is given."""
        for position in positions:
            if self.input(position) is not None:
                raise Refused(f"its input {position} has no form in standard operators")

    def rank(self, value: ir.Value) -> int:
        """Axes of a value. Raises Refused where that is not known."""
        if value.shape is None:
            raise Refused(f"the rank of {value.name} is not known")
        return len(value.shape)

    def size(self, value: ir.Value, axis: int) -> int | str | None:
        """A size: a number, or what names it. Raises Refused where the rank is not known."""
        self.rank(value)
        assert value.shape is not None
        size = value.shape[axis]
        return size if isinstance(size, int) else size.value

    def number_of(self, value: ir.Value, axis: int) -> int:
        """A size that must be a number. Raises Refused where it is not."""
        size = self.size(value, axis)
        if not isinstance(size, int):
            raise Refused(f"axis {axis} of {value.name} has no fixed size")
        return size

    # ---- often written ----------------------------------------------------------------------
    def reshaped(self, value: ir.Value, *sizes: int) -> ir.Value:
        """`value` as `sizes`: 0 copies a size, -1 is what is left."""
        return self.op("Reshape", value, self.integers(*sizes))

    def reshaped_scalar(self, value: ir.Value) -> ir.Value:
        """A vector of one element as a scalar."""
        return self.op("Squeeze", value, self.integers(0))

    def transposed(self, value: ir.Value, *axes: int) -> ir.Value:
        return self.op("Transpose", value, perm=list(axes))

    def sliced(self, value: ir.Value, axis: int, start: int, end: int) -> ir.Value:
        """Elements `start` to `end` - 1 along an axis; of a constant, another constant."""
        array = constant_of(value)
        if array is not None:
            where = [slice(None)] * array.ndim
            where[axis] = slice(start, end)
            return self.constant("part", np.ascontiguousarray(array[tuple(where)]))
        ends = [self.integers(n) for n in (start, end, axis)]
        return self.op("Slice", value, *ends)

    def sum(self, *values: ir.Value | None) -> ir.Value:
        """The sum of those that are given."""
        given = [value for value in values if value is not None]
        total = given[0]
        for value in given[1:]:
            total = self.typed(self.op("Add", total, value), given[0])
        return total

    def typed(self, value: ir.Value, like: ir.Value) -> ir.Value:
        """`value`, of which the type is known to be that of `like`."""
        if value.type is None:
            value.type = like.type
        return value

    def size_of(self, value: ir.Value, axis: int) -> ir.Value:
        """A size as an int64 vector of one element, computed where it is not a number."""
        size = self.size(value, axis)
        if isinstance(size, int):
            return self.integers(size)
        axis %= self.rank(value)
        return self.op("Shape", value, start=axis, end=axis + 1)

    def joined(self, axis: int, *values: ir.Value) -> ir.Value:
        return self.op("Concat", *values, axis=axis)
