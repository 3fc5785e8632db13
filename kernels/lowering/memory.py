"""Lifetimes of arena tensors from the order of the kernels, and the arena's layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gossamer.runtime.manifest import MOST_THREADS

from ..cpu.isa import Isa
from ..cpu.kernel import Kernel
from ..cpu.tensor import Tensor
from .arena import Lifetime, lower_bound, place

__all__ = ["Memory", "plan_memory"]

SLACK = 4096  # bytes that vector reads may touch past the end of a tensor


@dataclass(frozen=True)
class Memory:
    """Byte offsets by id(tensor); scratch areas follow the tensors."""

    offsets: dict[int, int]
    scratch_offset: int
    scratch_stride: int
    bytes: int
    lower_bound: int


def plan_memory(steps: Sequence[Kernel], isa: Isa) -> Memory:
    """Places every arena tensor of `steps` for the time from its first write to its last use."""
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
    lifetimes = [Lifetime(t, sizes[t], first[t], last[t]) for t in first]
    offsets, size = place(lifetimes)
    stride = max((-(-k.scratch_bytes(isa) // 64) * 64 for k in steps), default=0)
    scratch = size + SLACK
    threads = 1 if isa.target.family == "wasm" else MOST_THREADS  # WebAssembly runs one thread
    total = scratch + stride * (threads if stride else 0) + SLACK
    return Memory(
        {int(str(k)): v for k, v in offsets.items()}, scratch, stride, total, lower_bound(lifetimes)
    )
