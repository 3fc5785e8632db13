"""An artifact that does nothing but multiply-adds in registers: what its machine can reach at most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tvm import tirx as tir

from gossamer.runtime.manifest import MOST_THREADS

from .building.artifact import build_artifact
from .cpu.builder import Builder, Pointer
from .cpu.isa import Isa
from .cpu.kernel import Kernel
from .cpu.tensor import Tensor, contiguous
from .lowering.emit import emit_objects
from .lowering.entry import Layout, build_module
from .lowering.steps import Origins
from .program import Program, TensorInfo
from .targets import Target

__all__ = ["FACTORS", "build_peak"]

FACTORS = (0.5, 1.0)  # acc = acc * 0.5 + 1: stays finite, and is no loop invariant
_MACS = 1 << 24  # some tenths of a millisecond: short enough to be undisturbed now and then
_SYMBOL = "gossamer_entry_peak"


def build_peak(target: Target, out: Path) -> Path:
    """The artifact, in the new folder `out`; its input `x` (2,) float32 takes FACTORS.

    Every thread of a run does `manifest.steps[0].macs` multiply-adds. Raises JobError, OptionError.
    """
    isa = Isa(target, next(iter(target.variants)))
    factors, sums = _tensor("x", (2,), "input"), _tensor("y", (MOST_THREADS, _row(isa)), "output")
    kernel = _MultiplyAdds(factors, sums, isa)
    layout = Layout({id(factors): 0, id(sums): 1}, {}, {}, {})
    origins = Origins()
    origins.note([kernel], ["peak"])
    program = Program(
        name="peak",
        symbol=_SYMBOL,
        inputs=(TensorInfo("x", "float32", factors.shape),),
        outputs=(TensorInfo("y", "float32", sums.shape),),
        module=lambda v: build_module(_SYMBOL, [kernel], ["float32"] * 2, layout, Isa(target, v)),
        weights=b"",
        weight_table=(),
        arena_bytes=0,
        steps=origins.describe([kernel], isa),
    )
    return build_artifact(program, emit_objects(program, target), target, out)


def _tensor(name: str, shape: tuple[int, ...], place: str) -> Tensor:
    return Tensor(name, "float32", shape, contiguous(shape), place)


def _accumulators(isa: Isa) -> int:
    """Enough to hide the latency of a multiply-add, and two registers left for the factors."""
    return 24 if isa.registers >= 32 else 12


def _row(isa: Isa) -> int:
    return _accumulators(isa) * isa.lanes


def _turns(isa: Isa) -> int:
    return _MACS // _row(isa)


class _MultiplyAdds(Kernel):
    """y[thread] = many times y[thread] * x[0] + x[1], all of it in registers."""

    family = "peak"

    def __init__(self, factors: Tensor, sums: Tensor, isa: Isa) -> None:
        self._factors, self._sums = factors, sums
        self.macs = _turns(isa) * _row(isa)

    def reads(self) -> Sequence[Tensor]:
        return (self._factors,)

    def writes(self) -> Sequence[Tensor]:
        return (self._sums,)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("peak",)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        lanes, count = b.isa.lanes, _accumulators(b.isa)
        source, target = pointers[id(self._factors)], pointers[id(self._sums)]
        factor, addend = (tir.Broadcast(b.let(source.load(i)), lanes) for i in range(2))
        registers = [b.stack("float32", lanes) for _ in range(count)]
        for register in registers:
            b.store(register, 0, addend)
        with b.loop(_turns(b.isa)):
            for register in registers:
                b.store(register, 0, b.isa.multiply_add(register.load(0, lanes), factor, addend))
        for i, register in enumerate(registers):
            b.store(target, b.thread * _row(b.isa) + i * lanes, register.load(0, lanes))
