"""The C interface as a C program meets it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gossamer.kernels.building.emulating import find_emulator
from gossamer.kernels.building.toolchain import compile_c, platform_triple, runtime_source, zig
from gossamer.kernels.targets import find_target
from gossamer.runtime.artifact import open_artifact

Array = npt.NDArray[Any]

# Statuses of every verb for wrong arguments, then both models at once, each with sessions of 1 and 3 threads.
PROGRAM = r"""
#include "first/model.h"
#include "second/model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int checks;
static void check(int line, int got, int expected) {
    ++checks;
    if (got != expected) {
        printf("line %d: %d (%s), expected %d\n", line, got, gossamer_error(got), expected);
        exit(1);
    }
}
#define CHECK(got, expected) check(__LINE__, got, expected)

int main(int argc, char **argv) {
    const gossamer_model *first = &gossamer_model_toy, *second = &gossamer_model_other;
    gossamer_session *s = (gossamer_session *)argv;
    CHECK(argc, 5);
    CHECK(gossamer_open(NULL, argv[1], 1, &s), GOSSAMER_ERROR_ARGUMENT);
    CHECK(s == NULL, 1);
    CHECK(gossamer_open(first, NULL, 1, &s), GOSSAMER_ERROR_ARGUMENT);
    CHECK(gossamer_open(first, argv[1], -1, &s), GOSSAMER_ERROR_ARGUMENT);
    CHECK(gossamer_open(first, argv[1], 1000, &s), GOSSAMER_ERROR_ARGUMENT);
    CHECK(gossamer_open(first, argv[1], 1, NULL), GOSSAMER_ERROR_ARGUMENT);
    CHECK(gossamer_open(first, "no such folder", 1, &s), GOSSAMER_ERROR_FILE);
    CHECK(gossamer_open(first, argv[3], 1, &s), GOSSAMER_ERROR_SIZE);
    CHECK(gossamer_open(first, argv[4], 1, &s), GOSSAMER_ERROR_HASH);
    gossamer_model newer = *first;
    newer.api_version = 99;
    CHECK(gossamer_open(&newer, argv[1], 1, &s), GOSSAMER_ERROR_VERSION);
    gossamer_model huge = *first;
    huge.arena_bytes = SIZE_MAX;
    CHECK(gossamer_open(&huge, argv[1], 1, &s), GOSSAMER_ERROR_MANIFEST);
    char *memory = aligned_alloc(64, 192);
    CHECK(gossamer_open_memory(&huge, memory, 96, 1, &s), GOSSAMER_ERROR_MEMORY);
    huge.arena_bytes = 64;
    huge.scratch_bytes = SIZE_MAX / 2;
    CHECK(gossamer_open_memory(&huge, memory, 96, 4, &s), GOSSAMER_ERROR_MEMORY);
    static const char *const nobody[] = {"warp-drive", NULL};
    gossamer_model newest = *first;
    newest.requires = nobody;
    CHECK(gossamer_open(&newest, argv[1], 1, &s), GOSSAMER_ERROR_PROCESSOR);
    CHECK(gossamer_open_memory(first, memory, 95, 1, &s), GOSSAMER_ERROR_SIZE);
    CHECK(gossamer_open_memory(first, NULL, 96, 1, &s), GOSSAMER_ERROR_ARGUMENT);
    CHECK(gossamer_open_memory(first, memory + 4, 96, 1, &s), GOSSAMER_ERROR_ALIGNMENT);
    CHECK(gossamer_run(NULL, NULL, NULL), GOSSAMER_ERROR_ARGUMENT);
    CHECK(gossamer_describe(NULL) == NULL, 1);
    gossamer_close(NULL);

    CHECK(strcmp(first->name, "toy \"quoted\" */ \\ \303\251"), 0);
    CHECK(first->input_count, 1);
    CHECK(first->inputs[0].dtype, GOSSAMER_FLOAT32);
    CHECK(first->inputs[0].rank, 2);
    CHECK((int)first->inputs[0].shape[1], 12);
    CHECK(strcmp(first->outputs[0].name, "y*/"), 0);
    CHECK((int)first->outputs[0].bytes, 96);
    CHECK(second->weights != NULL, 1);

    float x[24], y[4][24];
    const void *inputs[] = {x}, *nothing[] = {NULL};
    gossamer_session *sessions[4];
    char file[4096];
    snprintf(file, sizeof file, "%s/weights.bin", argv[1]);
    CHECK(gossamer_open(first, argv[1], 1, &sessions[0]), GOSSAMER_OK);
    CHECK(gossamer_open(first, file, 3, &sessions[1]), GOSSAMER_OK);
    CHECK(gossamer_open(second, NULL, 1, &sessions[2]), GOSSAMER_OK);
    CHECK(gossamer_open(second, argv[2], 0, &sessions[3]), GOSSAMER_OK);
    CHECK(gossamer_describe(sessions[1]) == first, 1);
    for (int run = 0; run < 1000; ++run) {
        for (int i = 0; i < 24; ++i) x[i] = (float)(i + run);
        for (int i = 0; i < 4; ++i) {
            void *outputs[] = {y[i]}, *no_outputs[] = {NULL};
            CHECK(gossamer_run(sessions[i], inputs, outputs), GOSSAMER_OK);
            CHECK(gossamer_run(sessions[i], nothing, outputs), GOSSAMER_ERROR_ARGUMENT);
            CHECK(gossamer_run(sessions[i], inputs, no_outputs), GOSSAMER_ERROR_ARGUMENT);
            CHECK(gossamer_run(sessions[i], NULL, outputs), GOSSAMER_ERROR_ARGUMENT);
            CHECK(memcmp(y[i], y[0], sizeof y[0]), 0);
        }
    }
    int64_t times[3][5][2];
    void *outputs[] = {y[1]};
    memset(times, -1, sizeof times);
    CHECK(gossamer_profile(sessions[1], inputs, outputs, times[0][0], 5), GOSSAMER_OK);
    CHECK(memcmp(y[1], y[0], sizeof y[0]), 0);
    for (int i = 0; i < 3; ++i) {
        for (int kernel = 0; kernel < 5; ++kernel) {
            CHECK(times[i][kernel][0] >= 0, kernel < 2); /* the model has two */
            CHECK(times[i][kernel][1] >= times[i][kernel][0], 1);
        }
    }
    memset(times, -1, sizeof times);
    CHECK(gossamer_profile(sessions[0], inputs, outputs, times[0][0], 1), GOSSAMER_OK);
    CHECK(times[0][0][0] >= 0 && times[0][1][0] < 0, 1);
    CHECK(gossamer_profile(sessions[0], inputs, outputs, times[0][0], -1), GOSSAMER_ERROR_ARGUMENT);
    CHECK(gossamer_profile(sessions[0], inputs, outputs, NULL, 1), GOSSAMER_ERROR_ARGUMENT);
    CHECK(gossamer_profile(NULL, inputs, outputs, times[0][0], 1), GOSSAMER_ERROR_ARGUMENT);
    for (int i = 0; i < 4; ++i) gossamer_close(sessions[i]);
    free(memory);
    for (int status = 0; status < 12; ++status) CHECK(gossamer_error(status)[0] != 0, 1);
    printf("%d checks, y[23] = %g\n", checks, y[0][23]);
    return 0;
}
"""


def host_flags() -> list[str]:
    """zig's own library is not needed here, and slow to be compiled."""
    return ["-target", platform_triple(find_target("host")), "-rtlib=none", "-O2"]


def run(*command: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, **options
    )


@pytest.fixture(scope="module")
def together(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A program with two models in it, and its arguments."""
    folder = tmp_path_factory.mktemp("together")
    first = toy.artifact()
    second = toy.artifact(name="other", embed_weights=True, threads=2)
    (folder / "first").symlink_to(first)
    (folder / "second").symlink_to(second)
    (folder / "short").write_bytes(b"\0" * 95)
    (folder / "altered").write_bytes(b"\0" * 96)
    (folder / "main.c").write_text(PROGRAM, encoding="utf-8")
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{folder}"]
    libraries = [first / "libmodel.a", second / "libmodel.a"]
    zig("cc", *host_flags(), *flags, folder / "main.c", *libraries, "-o", folder / "main")
    return folder / "main", [first, second, folder / "short", folder / "altered"]


def test_two_models_and_every_status_in_one_program(toy: Any, together: tuple[Path, list[Path]]) -> None:
    program, arguments = together
    done = run(program, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(f"y[23] = {23 * 2 + 999 * 2 + 1}\n")


def test_the_header_is_c_plus_plus_too(toy: Any, tmp_path: Path) -> None:
    source = tmp_path / "main.cpp"
    source.write_text('#include "model.h"\nint main() { return gossamer_model_toy.input_count - 1; }\n')
    flags = ["-Wall", "-Wextra", "-Werror", f"-I{toy.artifact()}"]
    zig("c++", *host_flags(), *flags, "-c", source, "-o", tmp_path / "main.o")


@pytest.mark.parametrize(
    "triple",
    ["x86_64-linux-gnu.2.17", "arm-linux-gnueabihf.2.17", "aarch64-linux-android", "aarch64-macos"],
)
@pytest.mark.parametrize("name", ["session.c", "threads.c", "sha256.c"])
def test_the_runtime_compiles_everywhere_without_a_warning(tmp_path: Path, triple: str, name: str) -> None:
    pytest.importorskip("ziglang")
    compile_c(runtime_source(name), tmp_path / "out.o", triple, "-Wconversion", "-Wpedantic", "-Wshadow")


@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000])
def test_the_hash_is_sha256(tmp_path: Path, sha256: Any, size: int) -> None:
    import hashlib

    data = bytes(range(256)) * 4
    assert sha256(data[:size]) == hashlib.sha256(data[:size]).digest()


@pytest.fixture(scope="module")
def sha256(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The C runtime's hash as a function of bytes."""
    import ctypes

    pytest.importorskip("ziglang")
    out = tmp_path_factory.mktemp("hash") / "hash.so"
    flags = ["-shared", "-fPIC", "-nostartfiles", "-nodefaultlibs"]
    zig("cc", *host_flags(), *flags, runtime_source("sha256.c"), "-o", out)
    function = ctypes.CDLL(str(out)).gossamer_sha256
    function.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p]

    def digest(data: bytes) -> bytes:
        buffer = ctypes.create_string_buffer(32)
        function(data, len(data), buffer)
        return buffer.raw

    return digest


def build_example(artifact: Path, out: Path, *machine: str) -> Path:
    symbol = open_artifact(artifact).manifest.symbol
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", f"-DMODEL=gossamer_model_{symbol}"]
    sources = [runtime_source("example.c"), artifact / "libmodel.a"]
    zig("cc", *machine, *flags, f"-I{artifact}", *sources, "-lm", "-lpthread", "-o", out)
    return out


def expected_line(toy: Any) -> str:
    x = (np.arange(toy.size) % 100 * np.float32(0.01)).astype(np.float32)
    return "y*/ = " + " ".join(f"{value:.6g}" for value in toy.output(x)[:4])


@pytest.mark.parametrize("embed", [False, True])
def test_the_example_runs_here(toy: Any, tmp_path: Path, embed: bool) -> None:
    artifact = toy.artifact(embed_weights=embed)
    example = build_example(artifact, tmp_path / "example", *host_flags())
    done = run(example, artifact, 2)
    assert done.returncode == 0, done.stderr
    assert "input x: type 1, [2, 12], 96 bytes" in done.stdout
    assert done.stdout.splitlines()[-1] == expected_line(toy)


def test_the_example_tells_an_error_in_words(toy: Any, tmp_path: Path) -> None:
    example = build_example(toy.artifact(), tmp_path / "example", *host_flags())
    done = run(example, tmp_path)
    assert done.returncode == 1
    assert "the weights file cannot be opened" in done.stderr or "wrong size" in done.stderr
    assert run(example).returncode == 2


@pytest.mark.skipif(find_emulator("arm64") is None, reason="needs qemu-aarch64")
def test_the_example_runs_on_arm64(toy: Any, tmp_path: Path) -> None:
    artifact = toy.artifact("arm64-linux")
    example = build_example(artifact, tmp_path / "example", "-target", "aarch64-linux-musl", "-static", "-O2")
    done = run(find_emulator("arm64"), example, artifact)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == expected_line(toy)


def test_the_commands_in_the_example_are_true(toy: Any, tmp_path: Path) -> None:
    text = runtime_source("example.c").read_text(encoding="utf-8")
    command = re.search(r"cc (-DMODEL=\S+ .*)", text)
    assert command is not None
    words = command.group(1).replace("NAME", "toy").split()
    (tmp_path / "artifact").symlink_to(toy.artifact())
    (tmp_path / "example.c").write_text(text, encoding="utf-8")
    zig("cc", *host_flags(), *words, folder=tmp_path)
    assert run(os.path.join(".", "example"), "artifact", cwd=tmp_path).returncode == 0
