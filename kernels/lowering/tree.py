"""What a program does, in order: kernels, branches and loops, nested."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..cpu.kernel import Kernel
from ..cpu.tensor import Tensor
from ..dims import Size

__all__ = ["Branch", "Repeat", "Step", "conditions", "kernels_of", "parts_of"]


@dataclass(eq=False)
class Branch:
    """`then` where `condition` (bool, one element) holds, else `other`."""

    condition: Tensor
    then: list[Step]
    other: list[Step]
    family: str = "if"  # shown in reports


@dataclass(eq=False)
class Repeat:
    """`body` again and again: `most` times (a size, or int64 of one element), while `condition` holds.

    None is no limit. The condition (bool, one element) is looked at before each turn. Kernels of the body
    know the number of turns so far as the symbol `turn`; how many there were is written to `turns` (int64).
    A run of more turns than `room` fails, and `failure`, one of `Sizes.failures`, says so.
    """

    body: list[Step]
    turn: str
    most: Size | Tensor | None
    condition: Tensor | None
    turns: Tensor | None = None
    room: int | None = None
    failure: str = ""
    family: str = "loop"  # shown in reports


Step = Kernel | Branch | Repeat


def parts_of(step: Step) -> tuple[list[Step], ...]:
    """The lists of steps inside a step; none inside a kernel."""
    if isinstance(step, Branch):
        return step.then, step.other
    return (step.body,) if isinstance(step, Repeat) else ()


def kernels_of(steps: Sequence[Step]) -> Iterator[Kernel]:
    """All kernels, in the order of the code."""
    for step in steps:
        if isinstance(step, Kernel):
            yield step
        for part in parts_of(step):
            yield from kernels_of(part)


def conditions(step: Step) -> tuple[Tensor, ...]:
    """Tensors that the entry itself reads to decide what comes next."""
    if isinstance(step, Kernel):
        return ()
    found = (step.condition, step.most) if isinstance(step, Repeat) else (step.condition,)
    return tuple(tensor for tensor in found if isinstance(tensor, Tensor))
