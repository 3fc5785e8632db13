"""Instructions counted under qemu are exact, by class, and the command says what it lacks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gossamer.kernels.building.toolchain import runtime_source, zig
from gossamer.runtime.errors import InputError, JobError, OptionError
from gossamer.tools.counting import CLASSES, Counter, count_instructions, find_counter
from gossamer.tools.counting_onnxruntime import LIBRARY_FOLDER, SYSROOT

from .conftest import Run

# For each class, instructions of which most have an encoding with a rule of its own.
INSTRUCTIONS = {
    "multiply_add": (
        *("fmla v0.4s, v1.4s, v2.4s", "fmls v0.2s, v1.2s, v2.2s", "fmla v0.4s, v1.4s, v2.s[3]"),
        *(
            "fmla s0, s1, v2.s[1]",
            "fmadd s0, s1, s2, s3",
            "fnmsub d0, d1, d2, d3",
            "fmla v0.8h, v1.8h, v2.8h",
        ),
        *("mla v0.8h, v1.8h, v2.8h", "mls v0.4s, v1.4s, v2.s[1]", "smlal v0.8h, v1.8b, v2.8b"),
        *("umlal2 v0.4s, v1.8h, v2.h[2]", "sdot v0.4s, v1.16b, v2.16b", "udot v0.4s, v1.16b, v2.4b[1]"),
        "fmla v0.2d, v1.2d, v2.2d",
    ),
    "vector": (
        *("fadd v0.4s, v1.4s, v2.4s", "fmul v0.4s, v1.4s, v2.s[0]", "fmax s0, s1, s2", "dup v0.4s, v1.s[2]"),
        *(
            "mul v0.8h, v1.8h, v2.8h",
            "tbl v0.16b, {v1.16b}, v2.16b",
            "movi v0.4s, #0",
            "add v0.16b, v1.16b, v2.16b",
        ),
        *(
            "smull v0.8h, v1.8b, v2.8b",
            "fcvtzs v0.4s, v1.4s",
            "sqrdmulh v0.4s, v1.4s, v2.4s",
            "fmov s0, #1.0",
        ),
    ),
    "load": (
        *(
            "ldr x9, [x1]",
            "ldr q0, [x1, #16]",
            "ldp q0, q1, [x1]",
            "ld1 {v0.4s, v1.4s}, [x1]",
            "ldur s0, [x1, #4]",
        ),
        *("ld1r {v0.4s}, [x1]", "ldrsb w9, [x1]", "ldrsw x9, [x1]", "ldr s0, [x1, x2]", "ldaxr w9, [x1]"),
        *("ldrb w9, [x1]", "ldr h0, [x1]", "ldp x9, x10, [x1]", "ldnp d0, d1, [x1]"),
    ),
    "store": (
        *("str x9, [x1]", "str q0, [x1, #16]", "stp q0, q1, [x1]", "st1 {v0.4s}, [x1]", "stur s0, [x1, #4]"),
        *("strb w9, [x1]", "str d0, [x1]", "stlr w9, [x1]", "str s0, [x1, x2]"),
    ),
    "branch": ("b 2f; 2:", "cbz xzr, 2f; 2:", "nop"),
    "other": (
        *("add x9, x9, #1", "madd x9, x9, x10, x11", "mov x9, #5", "csel x9, x10, x11, eq"),
        *("prfm pldl1keep, [x1]", "lsl x9, x9, #3", "adr x9, ."),
    ),
}
PROGRAM = """
#include <stdlib.h>
#include "counting_mark.h"
static _Alignas(64) char memory[256];
int main(int argc, char **argv) {
    long turns = atol(argv[argc - 1]);
    gossamer_counting_mark();
    __asm__ volatile("mov x2, #0\\n1:\\n" BODY "subs %0, %0, #1\\nb.ne 1b\\n"
        : "+r"(turns) : "r"(memory) : "memory", "cc");
    gossamer_counting_mark();
    return 0;
}
"""


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Counter:
    """The emulator with the plugin, or a skip that says what is missing."""
    try:
        return find_counter(tmp_path_factory.mktemp("counter"))
    except OptionError as error:
        pytest.skip(str(error))


def loop(folder: Path, instructions: Sequence[str]) -> Path:
    """A program for AArch64 that executes `instructions` as many times as its last argument says."""
    lines = "".join(f'"{line}\\n"' for line in instructions)
    clobbers = '"x1", "x2", "x9", "x10", "x11", "v0", "v1", "v2", "v3", '
    text = PROGRAM.replace("BODY", f'"mov x1, %1\\n" {lines}')
    text = text.replace('"memory"', f'{clobbers}"memory"').replace('"+r"', '"+&r"')
    (folder / "loop.c").write_text(text)
    include = f"-I{runtime_source('counting_mark.h').parent}"
    flags = ("-static", "-O1", "-mcpu=cortex_a76", include)
    zig("cc", "-target", "aarch64-linux-musl", *flags, folder / "loop.c", "-o", folder / "loop")
    return folder / "loop"


@pytest.mark.parametrize("name", CLASSES)
def test_every_instruction_is_counted_in_its_class(counter: Counter, tmp_path: Path, name: str) -> None:
    program = loop(tmp_path, INSTRUCTIONS[name])

    def counts(turns: int) -> dict[str, int]:
        def emulate(options: Sequence[str]) -> object:
            return subprocess.run([counter.emulator, *options, program, str(turns)], check=True)

        return counter.count(emulate)[0]

    once, more = counts(1), counts(1001)
    expected = dict.fromkeys(CLASSES, 0)
    expected[name] = len(INSTRUCTIONS[name]) * 1000
    expected["other"] += 2000  # the address, the counter
    expected["branch"] += 1000
    assert {key: more[key] - once[key] for key in CLASSES} == expected


def test_an_artifact_is_counted_alike_every_time(toy: Any, counter: Counter) -> None:
    folder = toy.artifact("arm64-linux")
    first, second = count_instructions([folder, folder])
    assert first.to_dict() == second.to_dict()
    assert first.ratio == 1
    assert first.total >= toy.size // 4
    assert first.total == sum(getattr(first, name) for name in CLASSES)


def test_a_program_without_marks_fails(counter: Counter) -> None:
    with pytest.raises(JobError, match="was not counted"):
        counter.count(lambda options: None)


def test_the_command_compares_an_artifact_with_onnxruntime(
    run: Run, tiny: Path, tmp_path: Path, counter: Counter
) -> None:
    missing = [path for path in (LIBRARY_FOLDER, SYSROOT) if not path.is_dir()]
    if missing:
        pytest.skip(f"needs onnxruntime for AArch64 and its libraries: no {missing[0]}")
    out = tmp_path / "arm64"
    run("compile", tiny, out, "--target", "arm64-linux", "--input-shape", "x:2,12", "--no-verify")
    data = run("bench", tiny, out, "--count-instructions", "--json").data
    assert data["baseline"] == str(tiny)
    assert [row["engine"] for row in data["counts"]] == ["onnxruntime", "gossamer"]
    assert all(row["multiply_add"] > 0 for row in data["counts"])
    assert data["counts"][1]["ratio"] < 1  # onnxruntime's own work around a tiny model is larger than ours


def test_every_kernel_is_counted(run: Run, tiny: Path, tmp_path: Path, counter: Counter) -> None:
    out = tmp_path / "arm64"
    run("compile", tiny, out, "--target", "arm64-linux", "--input-shape", "x:2,12", "--no-verify")
    words = ("bench", "--count-instructions", "--profile")
    kernels = run(*words, out, "--json").data["kernels"]
    steps = json.loads((out / "manifest.json").read_text())["steps"]
    assert [row["kernel"] for row in kernels] == [step["kernel"] for step in steps]
    assert all(row["total"] == sum(row[name] for name in CLASSES) > 0 for row in kernels)
    assert abs(sum(row["share"] for row in kernels) - 1) < 1e-6
    (whole,) = count_instructions([out])
    assert sum(row["multiply_add"] for row in kernels) == whole.multiply_add
    assert all(0 < row["useful"] <= 1 for row, step in zip(kernels, steps, strict=True) if step["macs"])
    assert "useful" in run(*words, out).out
    assert "one artifact is wanted" in run(*words, tiny).err


@pytest.mark.parametrize("target", ["wasm", "armv7-linux"])
def test_other_processors_are_refused(toy: Any, counter: Counter, target: str) -> None:
    with pytest.raises(InputError, match="AArch64 only"):
        count_instructions([toy.artifact(target)])


def test_more_than_one_thread_is_refused(run: Run, tiny: Path) -> None:
    outcome = run("bench", tiny, "--count-instructions", "--threads", 2)
    assert outcome.code == 2
    assert "one thread" in outcome.err


def test_a_missing_emulator_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(OptionError, match="qemu-user"):
        find_counter(tmp_path)
