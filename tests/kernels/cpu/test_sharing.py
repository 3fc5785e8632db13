"""Every cell of a kernel's work belongs to exactly one thread, and shares are even."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.kernels.building import build_artifact
from gossamer.kernels.cpu.builder import Builder, Pointer, constant
from gossamer.kernels.cpu.isa import Isa
from gossamer.kernels.cpu.kernel import Kernel
from gossamer.kernels.cpu.tensor import Tensor, contiguous
from gossamer.kernels.lowering.emit import emit_objects
from gossamer.kernels.lowering.entry import Layout, build_module
from gossamer.kernels.program import Program, TensorInfo
from gossamer.kernels.targets import find_target
from gossamer.runtime.session import InferenceSession

THREADS = 8


class Shares(Kernel):
    """out[thread, cell] = 1 for the cells of a thread, 0 for all others."""

    family = "shares"

    def __init__(self, way: str, outer: int, inner: int) -> None:
        self.way, self.outer, self.inner = way, outer, inner
        shape = (THREADS, outer * inner)
        self.out = Tensor("y", "float32", shape, contiguous(shape), "output")

    def reads(self) -> Sequence[Tensor]:
        return ()

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("shares",)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        out, cells = pointers[id(self.out)], self.outer * self.inner
        with b.loop(cells) as i:
            b.store(out, b.thread * cells + i, constant(0.0, "float32"))
        with self.cells(b) as cell:
            b.store(
                out, b.thread * cells + cell, out.load(b.thread * cells + cell) + constant(1.0, "float32")
            )

    @contextmanager
    def cells(self, b: Builder) -> Iterator[Any]:
        if self.way == "grid":
            with b.split_grid(self.outer, self.inner) as (row, first, count), b.loop(count, first) as column:
                yield row * self.inner + column
        else:
            with b.split(self.outer) as row, b.loop(self.inner) as column:
                yield row * self.inner + column


def shares(kernel: Shares, folder: Path) -> dict[int, Any]:
    """By the number of threads: (threads, cells)."""
    target = find_target("host")
    symbol, layout = "gossamer_entry_shares", Layout({id(kernel.out): 0}, {}, {}, {})
    program = Program(
        name="shares",
        symbol=symbol,
        inputs=(),
        outputs=(TensorInfo("y", "float32", kernel.out.shape),),
        module=lambda v: build_module(symbol, [kernel], ["float32"], layout, Isa(target, v)),
        weights=b"",
        weight_table=(),
        arena_bytes=0,
    )
    path = build_artifact(program, emit_objects(program, target), target, folder / "artifact")
    found = {}
    for threads in range(1, THREADS + 1):
        with InferenceSession(path, threads=threads) as session:
            found[threads] = session.run(None, {})[0][:threads]
    return found


@pytest.mark.parametrize(("outer", "inner"), [(1, 1), (1, 7), (5, 1), (3, 4), (13, 64), (2, 3)])
def test_cells_of_a_grid_are_shared_out_evenly(tmp_path: Path, outer: int, inner: int) -> None:
    pytest.importorskip("tvm")
    for marks in shares(Shares("grid", outer, inner), tmp_path).values():
        np.testing.assert_array_equal(marks.sum(axis=0), 1)
        assert np.ptp(marks.sum(axis=1)) <= 1
        for own in marks:
            (cells,) = np.nonzero(own)
            assert len(cells) == 0 or np.ptp(cells) == len(cells) - 1, "neighbours"


@pytest.mark.parametrize("outer", [1, 2, 7, 64])
def test_iterations_of_a_loop_are_shared_out_evenly(tmp_path: Path, outer: int) -> None:
    pytest.importorskip("tvm")
    for marks in shares(Shares("loop", outer, 3), tmp_path).values():
        np.testing.assert_array_equal(marks.sum(axis=0), 1)
        assert np.ptp(marks.sum(axis=1)) <= 3
