"""Lifetimes of arena tensors from the order of the kernels, and the arena's layout.

The order is that of the code: both parts of a branch follow one another, and what lives at the start or the
end of a loop, or is read in it before it is written, lives for all of it.

The scratch of a kernel is one tensor more that lives for one step, so the first thread's lies in the gaps
that activations leave. Further threads have areas of their own behind the arena, each as large as the largest
scratch: how many there are is known when a session opens.

Where sizes are known only when the program runs, tensors are placed for the most that they can be. Those that
can be of any size lie behind the others (`growing.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from ..cpu.isa import Isa
from ..cpu.tensor import Tensor
from ..dims import Size, larger, upper_bound
from .arena import Lifetime, lower_bound, place
from .growing import Need, Part, aligned, divided, stacked
from .sizes import Sizes
from .spans import spans_of
from .table import ITEM, Table
from .tree import Step, kernels_of

__all__ = ["Memory", "plan_memory"]

SLACK = 1024  # bytes that vector reads may touch past the end of a tensor


@dataclass(frozen=True)
class Memory:
    """Byte offsets of tensors by id(tensor), and of the first thread's scratch by step.

    `bytes` is the arena of one thread, `scratch_bytes` what each further thread needs behind it; both are
    multiples of 64 and end in slack. `lower_bound` is the most that is alive at one step.
    """

    offsets: dict[int, Size]
    scratch: dict[int, Size]
    bytes: Size
    scratch_bytes: Size
    lower_bound: int


def plan_memory(steps: Sequence[Step], isa: Isa, table: Table | None = None) -> Memory:
    """Places every arena tensor of `steps` for the time from its first write to its last use.

    `table` lies at the head of the arena, and takes up offsets that depend on sizes.
    """
    table = table or Table(Sizes())
    needed = _scratch(steps, isa, table)
    tensors = spans_of(steps)
    needs = [Need(("tensor", t), _bytes(s.tensor, table), s.first, s.last) for t, s in tensors.items()]
    needs += [Need(("scratch", step), size, step, step) for step, size in needed.items()]
    placed = [Lifetime(n.tensor, n.bytes, n.first, n.last) for n in needs if isinstance(n.bytes, int)]
    where, end = _place(table, placed, divided([n for n in needs if not isinstance(n.bytes, int)]))
    return Memory(
        {key[1]: offset for key, offset in where.items() if key[0] == "tensor"},
        {key[1]: offset for key, offset in where.items() if key[0] == "scratch"},
        end + SLACK,
        aligned(reduce(larger, needed.values())) + SLACK if needed else 0,
        lower_bound(placed),
    )


def _place(table: Table, placed: Sequence[Lifetime], parts: Sequence[Part]) -> tuple[dict[Any, Size], Size]:
    """Offsets, and the end of all: the table, then what has a bound, then what has none."""
    offsets, size = place(placed)
    head = aligned(ITEM * table.count + ITEM * len(parts))
    where: dict[Any, Size] = {tensor: head + offset for tensor, offset in offsets.items()}
    growing, end = stacked(table, parts, head + size)
    return {**where, **growing}, end


def _scratch(steps: Sequence[Step], isa: Isa, table: Table) -> dict[int, Size]:
    """Bytes by kernel."""
    sizes = {step: kernel.scratch_bytes(isa) for step, kernel in enumerate(kernels_of(steps))}
    return {step: _bounded(table.sizes.capacity(size)) for step, size in sizes.items() if size}


def _bytes(tensor: Tensor, table: Table) -> Size:
    return _bounded(larger(1, table.sizes.capacity(tensor.bytes)))


def _bounded(size: Size) -> Size:
    """The most that it can be, where it has a bound."""
    most = upper_bound(size)
    return size if most is None else most
