"""What each step of the entry is, for profiles: names of its layers, and the work it does."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from gossamer.runtime.specs import StepSpec

from ..cpu.isa import Isa
from ..cpu.kernel import Kernel
from ..cpu.tensor import ITEM_BYTES, Tensor
from ..dims import Size, smaller, upper_bound
from .tree import Branch, Repeat, Step, kernels_of, parts_of

__all__ = ["Origins", "layer_names"]


class Origins:
    """Remembers which nodes each kernel was made for."""

    def __init__(self) -> None:
        self._names: dict[int, tuple[Kernel, tuple[str, ...]]] = {}  # the kernel lives as long as its id

    def note(self, steps: Sequence[Step], names: Sequence[str]) -> None:
        """Kernels in `steps` that were not there at the last call belong to the layers `names`."""
        for kernel in kernels_of(steps):
            self._names.setdefault(id(kernel), (kernel, tuple(names)))

    def describe(self, steps: Sequence[Step], isa: Isa) -> tuple[StepSpec, ...]:
        """One line for every step, in order; a branch or a loop is one."""
        return tuple(
            _step(step, self._of(step), isa) if isinstance(step, Kernel) else self._nested(step, isa)
            for step in steps
        )

    def _of(self, kernel: Kernel) -> tuple[str, ...]:
        return self._names[id(kernel)][1]

    def _nested(self, step: Branch | Repeat, isa: Isa) -> StepSpec:
        """What is read, written and computed in one turn, or in the larger branch."""
        parts = [self.describe(part, isa) for part in parts_of(step)]
        kernels = list(kernels_of([step]))
        names = dict.fromkeys(name for kernel in kernels for name in self._of(kernel))
        return StepSpec(
            kernel=step.family,
            layers=tuple(names),
            shape=kernels[-1].writes()[0].shape if kernels else (),
            tile="",
            macs=max(sum(spec.macs for spec in part) for part in parts),
            read_bytes=max(sum(spec.read_bytes for spec in part) for part in parts),
            written_bytes=max(sum(spec.written_bytes for spec in part) for part in parts),
            scratch_bytes=max((kernel.scratch_bytes(isa) for kernel in kernels), default=0),
        )


def layer_names(node: ir.Node, fused: Sequence[ir.Node]) -> tuple[str, ...]:
    """The node's name, then those of the nodes computed with it; the operator where a node has none."""
    return tuple(n.name or n.op_type for n in (node, *fused))


def _step(kernel: Kernel, names: tuple[str, ...], isa: Isa) -> StepSpec:
    out = kernel.writes()[0]
    return StepSpec(
        kernel=kernel.family,
        layers=names,
        shape=tuple(n if isinstance(n, int) else str(n) for n in out.shape),
        tile=kernel.tile_name,
        macs=kernel.macs,
        read_bytes=_read_bytes(kernel, out),
        written_bytes=_bytes(kernel.writes()),
        scratch_bytes=_number(kernel.scratch_bytes(isa)),
    )


def _read_bytes(kernel: Kernel, out: Tensor) -> int:
    """An elementwise kernel, which may gather, reads no more than one element for each that it writes."""
    if kernel.family != "elementwise":
        return _bytes(kernel.reads())
    return _number(sum(smaller(t.bytes, out.size * ITEM_BYTES[t.dtype]) for t in kernel.reads()))


def _bytes(tensors: Sequence[Tensor]) -> int:
    return _number(sum(tensor.bytes for tensor in {id(tensor): tensor for tensor in tensors}.values()))


def _number(size: Size) -> int:
    """The most that a size can be; 0 where that is not known."""
    return upper_bound(size) or 0
