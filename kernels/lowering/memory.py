"""Lifetimes of arena tensors from the order of the kernels, and the arena's layout.

The scratch of a kernel is one tensor more that lives for one step, so the first thread's lies in the gaps
that activations leave. Further threads have areas of their own behind the arena, each as large as the largest
scratch: how many there are is known when a session opens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..cpu.isa import Isa
from ..cpu.kernel import Kernel
from ..cpu.tensor import Tensor
from .arena import ALIGNMENT, Lifetime, lower_bound, place

__all__ = ["Memory", "plan_memory"]

SLACK = 1024  # bytes that vector reads may touch past the end of a tensor


@dataclass(frozen=True)
class Memory:
    """Byte offsets of tensors by id(tensor), and of the first thread's scratch by step.

    `bytes` is the arena of one thread, `scratch_bytes` what each further thread needs behind it; both are
    multiples of 64 and end in slack. `lower_bound` is the most that is alive at one step.
    """

    offsets: dict[int, int]
    scratch: dict[int, int]
    bytes: int
    scratch_bytes: int
    lower_bound: int


def plan_memory(steps: Sequence[Kernel], isa: Isa) -> Memory:
    """Places every arena tensor of `steps` for the time from its first write to its last use."""
    tensors = _tensors(steps)
    needed = {step: size for step, kernel in enumerate(steps) if (size := kernel.scratch_bytes(isa))}
    scratch = [Lifetime(("scratch", step), size, step, step) for step, size in needed.items()]
    lifetimes = [*tensors.values(), *scratch]
    offsets, size = place(lifetimes)
    return Memory(
        {identity: offsets[life.tensor] for identity, life in tensors.items()},
        {life.first: offsets[life.tensor] for life in scratch},
        size + SLACK,
        _aligned(max(needed.values())) + SLACK if needed else 0,
        lower_bound(lifetimes),
    )


def _tensors(steps: Sequence[Kernel]) -> dict[int, Lifetime]:
    """By id(tensor)."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for step, kernel in enumerate(steps):
        for tensor in (*kernel.reads(), *kernel.writes()):
            root: Tensor = tensor.root
            if root.place == "arena":
                first.setdefault(id(root), step)
                last[id(root)] = step
                sizes[id(root)] = max(1, root.bytes)
    return {t: Lifetime(("tensor", t), sizes[t], first[t], last[t]) for t in first}


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
