"""The right factors of the blocks of a bit stack that are there, as float32 times the factors of the inputs.

They are converted once in a run, as every strip of the weight uses all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .bit_stack_strips import STEP_INPUTS, UNIT
from .builder import Builder, Pointer
from .half import load_half
from .kernel import Kernel
from .lazy import Leaf
from .tensor import Tensor

__all__ = ["BitStackFactors"]


@dataclass(eq=False)
class BitStackFactors(Kernel):
    """`halves`: all weights as uint16; `table`: int32 [1 + blocks], how many blocks there are and where they
    lie; `columns`: float32 [inputs], times 2 ** 112; `out`: float32 [blocks, steps, rank, 8]."""

    halves: Tensor
    table: Tensor
    columns: Tensor
    out: Tensor
    family = "bit-stack-factors"

    def reads(self) -> Sequence[Tensor]:
        return (self.halves, self.table, self.columns)

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.family, *(Leaf(t).key for t in (*self.reads(), self.out)))

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        halves, table, columns, out = (pointers[id(t)] for t in (*self.reads(), self.out))
        _, steps, rank, _ = self.out.shape
        with b.loop(b.let(table.load(0), "blocks")) as block:
            start = b.let(table.load(block + 1) * (UNIT // 2), "start")
            place = b.let(block * (steps * rank * STEP_INPUTS), "place")
            with b.split(steps) as step:
                factors = b.hold(columns.load(step * STEP_INPUTS, STEP_INPUTS))
                with b.loop(rank) as r:
                    at = b.let((step * rank + r) * STEP_INPUTS)
                    b.store(out, place + at, load_half(b, halves, start + at, STEP_INPUTS, factors))
