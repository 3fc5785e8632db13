"""From when to when each arena tensor is needed, in a program with branches and loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..cpu.kernel import Kernel
from ..cpu.tensor import Tensor
from .tree import Repeat, Step, conditions, parts_of

__all__ = ["Span", "spans_of"]


@dataclass
class Span:
    """A tensor that owns memory, and the first and the last step that need it."""

    tensor: Tensor
    first: int
    last: int
    carried: bool  # read before it is written, as far as the order of the code tells


def spans_of(steps: Sequence[Step]) -> dict[int, Span]:
    """By id of the tensor; steps are counted as `kernels_of` gives them."""
    walk = _Walk()
    walk.list(steps)
    for first, last in walk.loops:  # inner ones first
        for span in walk.spans.values():
            _keep(span, first, last)
    return walk.spans


def _keep(span: Span, first: int, last: int) -> None:
    """What is needed across a border of the loop, or from one turn to the next, is needed for all of it."""
    if span.last < first or span.first > last:
        return
    if span.first < first or span.last > last or span.carried:
        span.first, span.last = min(span.first, first), max(span.last, last)


class _Walk:
    def __init__(self) -> None:
        self.spans: dict[int, Span] = {}
        self.loops: list[tuple[int, int]] = []
        self._step = 0

    def list(self, steps: Sequence[Step]) -> None:
        for step in steps:
            start = self._step
            for tensor in conditions(step):
                self._use(tensor, start, written=False)
            if isinstance(step, Kernel):
                self._kernel(step)
            for part in parts_of(step):
                self.list(part)
            if isinstance(step, Repeat):
                end = max(start, self._step - 1)
                for tensor in conditions(step):
                    self._use(tensor, end, written=False)
                self.loops.append((start, end))

    def _kernel(self, kernel: Kernel) -> None:
        for tensor in kernel.reads():
            self._use(tensor, self._step, written=False)
        for tensor in kernel.writes():
            self._use(tensor, self._step, written=True)
        self._step += 1

    def _use(self, tensor: Tensor, step: int, *, written: bool) -> None:
        root = tensor.root
        if root.place != "arena":
            return
        span = self.spans.setdefault(id(root), Span(root, step, step, not written))
        span.first, span.last = min(span.first, step), max(span.last, step)
