"""Sums of 8-bit products are exact on every target that runs here, at the ends of every range too."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gossamer.kernels.building import build_artifact
from gossamer.kernels.building.emulating import find_emulator, run_emulated
from gossamer.kernels.cpu.builder import Builder, Pointer, constant
from gossamer.kernels.cpu.integer_dot import Dot, integer_dot
from gossamer.kernels.cpu.isa import Isa
from gossamer.kernels.cpu.kernel import Kernel
from gossamer.kernels.cpu.tensor import Tensor, contiguous
from gossamer.kernels.lowering.emit import compiled_module, emit_objects
from gossamer.kernels.lowering.entry import Layout, build_module
from gossamer.kernels.program import Program, TensorInfo
from gossamer.kernels.targets import Target, find_target, target_names
from gossamer.runtime.machine import cpu_flags
from gossamer.runtime.session import InferenceSession

Array = npt.NDArray[Any]
ROWS, STEPS = 7, 11  # steps: two times four, two and one
RANGES = ((-128, 127), (-127, 127), (-255, 255))
CASES = [(dtype, span) for dtype in ("uint8", "int8") for span in RANGES]
TARGETS = [name for name in target_names() if "android" not in name and "apple" not in name]


class Sums(Kernel):
    """out[row, lane] = Σ x[row] · w[lane], once with `broadcast`, once with `broadcasts`."""

    family = "sums"

    def __init__(self, dot: Dot, number: int) -> None:
        self.dot, lanes = dot, dot.lanes
        self.x = given(f"x{number}", dot.activations, (ROWS, STEPS * dot.depth), "input")
        self.w = given(f"w{number}", dot.weight_dtype, (STEPS, lanes * dot.depth), "input")
        self.out = given(f"y{number}", "int32", (2, ROWS, lanes), "output")

    def reads(self) -> Sequence[Tensor]:
        return (self.x, self.w)

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("sums", *self.dot.key)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        dot, lanes = self.dot, self.dot.lanes
        x, w, out = (pointers[id(t)] for t in (self.x, self.w, self.out))
        with b.loop(ROWS) as row:
            start = row * STEPS * dot.depth
            many = dot.broadcasts(b, x, start, STEPS)
            for way in (0, 1):
                at = (way * ROWS + row) * lanes
                b.store(out, at, constant(0, "int32", lanes))
                for step in range(STEPS):
                    one = many(step) if way else dot.broadcast(b, x, start + step * dot.depth)
                    weights = dot.weights(w, step * lanes * dot.depth)
                    b.store(out, at, dot.accumulate(b, out.load(at, lanes), b.let(one), weights))


def given(name: str, dtype: str, shape: tuple[int, ...], place: str) -> Tensor:
    return Tensor(name, dtype, shape, contiguous(shape), place)


def sums(target: Target, kernels: Sequence[Sums], folder: Path) -> Path:
    """An artifact that computes all of them."""
    inputs = [t for k in kernels for t in k.reads()]
    outputs = [t for k in kernels for t in k.writes()]
    layout = Layout({id(t): i for i, t in enumerate((*inputs, *outputs))}, {}, {}, {})
    types = [t.dtype for t in (*inputs, *outputs)]
    symbol = "gossamer_entry_sums"
    program = Program(
        name="sums",
        symbol=symbol,
        inputs=tuple(TensorInfo(t.name, t.dtype, t.shape) for t in inputs),
        outputs=tuple(TensorInfo(t.name, t.dtype, t.shape) for t in outputs),
        module=lambda v: build_module(symbol, kernels, types, layout, Isa(target, v)),
        weights=b"",
        weight_table=(),
        arena_bytes=0,
    )
    return build_artifact(program, emit_objects(program, target), target, folder / "artifact")


def activations(dtype: str, count: int) -> Array:
    """Rows at both ends of the range, that change between them in turns of one and two, and any."""
    ends = np.iinfo(dtype)
    column = np.arange(count)
    rows = [np.full(count, ends.min), np.full(count, ends.max)]
    rows += [np.where(column % 2, ends.min, ends.max), np.where(column % 4 < 2, ends.min, ends.max)]
    drawn = np.random.default_rng(0).integers(ends.min, ends.max + 1, (ROWS - len(rows), count))
    return np.concatenate([np.stack(rows), drawn]).astype(dtype)


def weights(span: tuple[int, int], lanes: int, count: int) -> Array:
    """Outputs at both ends of the range, that change between them in turns of one, and any."""
    column = np.arange(count)
    rows = [np.full(count, span[0]), np.full(count, span[1]), np.where(column % 2, *span)]
    drawn = np.random.default_rng(1).integers(span[0], span[1] + 1, (lanes - len(rows), count))
    return np.concatenate([np.stack(rows), drawn])


def computed(target: Target, artifact: Path, feeds: dict[str, Array]) -> list[list[Array]]:
    """Outputs of every variant of the code."""
    if target.family in ("arm64", "arm") and platform.machine() != "aarch64":
        return [run_emulated(artifact, feeds).outputs]
    found = []
    for engine in ("simd", "relaxed") if target.family == "wasm" else (None,):
        with InferenceSession(artifact, engine=engine) as session:
            found.append([np.asarray(y).copy() for y in session.run(None, feeds)])
    return found


def skip_unless_it_runs(target: Target) -> None:
    if target.family == "wasm":
        if find_spec("wasmtime") is None:
            pytest.skip("wasmtime is not installed")
    elif target.family == "x86":
        if not set(target.requires) <= cpu_flags():
            pytest.skip(f"this processor is no {target.name}")
    elif find_emulator(target.family) is None:
        pytest.skip(f"no emulator of {target.family} is installed")


@pytest.mark.parametrize("name", TARGETS)
def test_sums_are_exact(name: str, tmp_path: Path) -> None:
    target = find_target(name)
    skip_unless_it_runs(target)
    isa = Isa(target, next(iter(target.variants)))
    kernels = [Sums(integer_dot(isa, dtype, span), i) for i, (dtype, span) in enumerate(CASES)]
    feeds: dict[str, Array] = {}
    wanted = []
    for i, (kernel, (dtype, span)) in enumerate(zip(kernels, CASES, strict=True)):
        dot, count = kernel.dot, kernel.x.shape[1]
        feeds[f"x{i}"] = activations(dtype, count)
        w = weights(span, dot.lanes, count)
        feeds[f"w{i}"] = dot.pack(w)[0]
        flipped = feeds[f"x{i}"].astype(np.int64) + (dot.zero_point(0) if dot.flip else 0)
        wanted.append(flipped @ w.T)
    for outputs in computed(target, sums(target, kernels, tmp_path), feeds):
        for kernel, y, expected in zip(kernels, outputs, wanted, strict=True):
            np.testing.assert_array_equal(y, np.stack([expected] * 2), err_msg=kernel.dot.name)


@pytest.mark.parametrize(
    ("name", "dtype", "span", "instruction"),
    [
        ("x86-64-v4-vnni", "uint8", (-128, 127), "vpdpbusd"),
        ("x86-64-v4-vnni", "int8", (-128, 127), "vpdpbusd"),
        ("x86-64-v4-vnni", "uint8", (-255, 255), "vpmaddwd"),
        ("x86-64-v4", "uint8", (-128, 127), "vpmaddwd"),
        ("x86-64-v3-vnni", "int8", (-128, 127), "vpdpbusd"),
        ("x86-64-v3", "uint8", (-128, 127), "vpmaddwd"),
        ("x86-64-v2", "uint8", (-128, 127), "pmaddwd"),
        ("wasm", "int8", (-128, 127), "i32x4.dot_i16x8_s"),
        ("arm64-linux", "int8", (-127, 127), "smlal2"),
        ("arm64-linux", "int8", (-128, 127), "sadalp"),
        ("arm64-linux-dotprod", "uint8", (-128, 127), "sdot"),
        ("arm64-linux-i8mm", "uint8", (-128, 127), "sudot"),
        ("arm64-linux-i8mm", "int8", (-128, 127), "sdot"),
        ("arm64-apple", "int8", (-128, 127), "sdot"),
        ("armv7-linux", "int8", (-127, 127), "vpadal.s16"),
    ],
)
def test_the_code_holds_the_instruction(
    name: str, dtype: str, span: tuple[int, int], instruction: str
) -> None:
    import tvm
    from tvm import ir

    from gossamer.kernels.lowering.entry import as_c_function

    target = find_target(name)
    isa = Isa(target, next(iter(target.variants)))
    kernel = Sums(integer_dot(isa, dtype, span), 0)
    module = tvm.IRModule({ir.GlobalVar("sums"): as_c_function(kernel.build(isa), "sums")})
    assert f"\t{instruction}" in compiled_module(module, isa).inspect_source("asm")


def test_packed_weights_are_padded_with_zeros() -> None:
    isa = Isa(find_target("x86-64-v4-vnni"), "model")
    w = np.arange(1, 1 + 17 * 5).reshape(17, 5)
    packed = integer_dot(isa, "uint8", (1, 85)).pack(w)
    assert packed.shape == (2, 2, 64)
    assert packed.dtype == np.int8
    steps = packed.reshape(2, 2, 16, 4)
    np.testing.assert_array_equal(steps[0, 0], w[:16, :4])
    np.testing.assert_array_equal(steps[1, 1, 0], [85, 0, 0, 0])
    assert not steps[1, :, 1:].any()
