"""What each kernel call of the entry is, for profiles: names of its layers, and the work it does."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from gossamer.runtime.specs import StepSpec

from ..cpu.isa import Isa
from ..cpu.kernel import Kernel
from ..cpu.tensor import ITEM_BYTES, Tensor

__all__ = ["Origins", "layer_names"]


class Origins:
    """Remembers which nodes each kernel was made for."""

    def __init__(self) -> None:
        self._names: dict[int, tuple[Kernel, tuple[str, ...]]] = {}  # the kernel lives as long as its id

    def note(self, steps: Sequence[Kernel], names: Sequence[str]) -> None:
        """Kernels in `steps` that were not there at the last call belong to the layers `names`."""
        for kernel in steps:
            self._names.setdefault(id(kernel), (kernel, tuple(names)))

    def describe(self, steps: Sequence[Kernel], isa: Isa) -> tuple[StepSpec, ...]:
        """One line for every kernel, in order."""
        return tuple(_step(kernel, self._names[id(kernel)][1], isa) for kernel in steps)


def layer_names(node: ir.Node, fused: Sequence[ir.Node]) -> tuple[str, ...]:
    """The node's name, then those of the nodes computed with it; the operator where a node has none."""
    return tuple(n.name or n.op_type for n in (node, *fused))


def _step(kernel: Kernel, names: tuple[str, ...], isa: Isa) -> StepSpec:
    out = kernel.writes()[0]
    return StepSpec(
        kernel=kernel.family,
        layers=names,
        shape=out.shape,
        tile=kernel.tile_name,
        macs=kernel.macs,
        read_bytes=_read_bytes(kernel, out),
        written_bytes=_bytes(kernel.writes()),
        scratch_bytes=kernel.scratch_bytes(isa),
    )


def _read_bytes(kernel: Kernel, out: Tensor) -> int:
    """An elementwise kernel, which may gather, reads no more than one element for each that it writes."""
    if kernel.family != "elementwise":
        return _bytes(kernel.reads())
    return sum(min(t.bytes, out.size * ITEM_BYTES[t.dtype]) for t in kernel.reads())


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.bytes for tensor in {id(tensor): tensor for tensor in tensors}.values())
