"""Weights that stay as a format stores them and are decoded, a few at a time, just before they are used.

A weight is cut into strips: a few outputs, which lie side by side, for every input in turn. A kernel that
wants a panel of weights decodes its strips into scratch, which stays in the cache while they are multiplied
with many activations. So no dense copy of a weight is ever in memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, int32
from .tensor import Tensor

__all__ = ["Place", "StoredStrips", "decode_panel"]


@dataclass(frozen=True)
class Place:
    """Where decoded weights go: the outputs of input k lie side by side at `offset` + k · `pitch`."""

    pointer: Pointer
    offset: Any
    pitch: int


@dataclass(eq=False)
class StoredStrips(ABC):
    """Strips of `width` outputs each: 1, 2, 4, 8 or 16 of them, at most a vector's lanes.

    The weights of a strip are counted in the order (input, output). They are decoded `step` at a time, and
    each strip is stored as whole steps.
    """

    tensors: tuple[Tensor, ...]
    width: int
    step: int

    @property
    @abstractmethod
    def key(self) -> tuple[Any, ...]:
        """Everything that the code depends on, beside the tensors."""

    @abstractmethod
    def decode(
        self, b: Builder, pointers: dict[int, Pointer], strip: Any, at: Any, first: Any, steps: Any, to: Place
    ) -> None:
        """Writes `steps` steps of strip number `strip`, float32, to `to`.

        `at` counts the steps of all strips that are stored before the first one wanted, `first` the inputs
        of the strip before it. What is written past the last input of a strip is any value.
        """

    def steps(self, inputs: int) -> int:
        """Steps that store a strip of so many inputs."""
        return -(-inputs * self.width // self.step)

    def padded(self, inputs: int) -> int:
        """Inputs that are written for a strip of `inputs`."""
        return self.steps(inputs) * self.inputs_of_step

    @property
    def inputs_of_step(self) -> int:
        """Inputs whose weights are one step."""
        return self.step // self.width


def decode_panel(
    b: Builder,
    pointers: dict[int, Pointer],
    stored: StoredStrips,
    inputs: int,
    strip: Any,
    count: int,
    pointer: Pointer,
    offset: Any,
    some: tuple[Any, Any] | None = None,
) -> None:
    """Decodes `count` strips of `inputs` each from number `strip`, side by side, to `pointer` from `offset`.

    The panel is (inputs × count · width). `some` asks for a part of the inputs: the first, which must be a
    multiple of `inputs_of_step`, and how many. As many are written as are whole steps.
    """
    per_step, steps = stored.inputs_of_step, stored.steps(inputs)
    first, wanted = some if some else (int32(0), int32(steps * per_step))
    turns = b.let(tir.truncdiv(wanted + (per_step - 1), int32(per_step)), "steps") if some else int32(steps)
    with b.each(count) as part:
        number = b.let(strip + part, "strip")
        at = b.let(number * steps + (tir.truncdiv(first, int32(per_step)) if some else 0), "at")
        place = Place(pointer, b.let(offset + part * stored.width), stored.width * count)
        stored.decode(b, pointers, number, at, first, turns, place)
