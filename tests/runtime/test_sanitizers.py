"""The C runtime and its programs under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer.

The toy's kernels are C too, so that what they read and write is watched as the runtime is.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gossamer.kernels.building.native import RUNTIME_FILES
from gossamer.kernels.building.sources import model_header, model_source
from gossamer.kernels.building.toolchain import runtime_source
from gossamer.kernels.targets import find_target

from .test_c import PROGRAM as EVERY_STATUS
from .test_c import expected_line

# Runs, profiles and failing runs, from two threads at once, with pauses after which workers sleep; the
# threads of a run wait for each other inside kernels long enough to sleep there too.
THREADS_AND_FAILURES = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "model.h"

enum { RUNS = 60, THREADS = 4 };
static gossamer_session *session;

static void rest(long nanoseconds) {
    struct timespec time = {0, nanoseconds};
    nanosleep(&time, NULL);
}
void slow_down(int thread) { if (thread == 1) rest(200000); }

static void *use(void *argument) {
    float x[24], y[24];
    int64_t times[THREADS][2][2];
    const void *inputs[] = {x};
    void *outputs[] = {y};
    for (int run = 0; run < RUNS; ++run) {
        for (int i = 0; i < 24; ++i) x[i] = (float)(i + run);
        if (run % 5 == 4) x[0] = -2e30f;
        int32_t expected = run % 5 == 4 ? GOSSAMER_ERROR_KERNEL : GOSSAMER_OK;
        int32_t status = run % 3 ? gossamer_run(session, inputs, outputs)
                                 : gossamer_profile(session, inputs, outputs, times[0][0], 2);
        if (status != expected) exit(3);
        if (status == GOSSAMER_OK && y[23] != x[23] * 2 + 1) exit(4);
        if (run % 10 == 0) rest(2000000);
    }
    return argument;
}

int main(int argc, char **argv) {
    for (int32_t threads = 1; threads <= THREADS; ++threads) {
        if (gossamer_open(&gossamer_model_toy, argv[argc - 1], threads, &session) != GOSSAMER_OK) return 2;
        pthread_t other;
        if (pthread_create(&other, NULL, use, NULL) != 0) return 2;
        use(NULL);
        pthread_join(other, NULL);
        gossamer_close(session);
    }
    puts("done");
    return 0;
}
"""
SLOW = "extern void slow_down(i32 thread); slow_down(thread);"

# a write past the output, and one to what another thread reads: each is for one of the sanitizers
WRONG = "if (thread == 0) arena[SIZE - 1] = 0; *(volatile float *)(y + SIZE) = 0;"


def compiler() -> str:
    """A C compiler with sanitizers of its own: zig brings none."""
    found = shutil.which("gcc") or shutil.which("clang")
    if found is None:
        pytest.skip("needs gcc or clang")
    return found


def run(*command: object) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)


def require_clean(done: subprocess.CompletedProcess[str], status: int = 0) -> str:
    """What a program printed; the sanitizers end one that is not clean with a status of their own."""
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer cannot place its memory on this system")
    assert "Sanitizer" not in done.stderr, done.stderr
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sources(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the toy model in C, its descriptor and its weights."""
    folder = tmp_path_factory.mktemp("sanitized")
    program, target = toy.program(), find_target("host")
    sha256 = hashlib.sha256(program.weights).hexdigest()
    (folder / "weights.bin").write_bytes(program.weights)
    (folder / "kernels.c").write_text(toy.source(), encoding="utf-8")
    (folder / "slow_kernels.c").write_text(toy.source(extra=SLOW), encoding="utf-8")
    (folder / "wrong_kernels.c").write_text(toy.source(extra=WRONG), encoding="utf-8")
    (folder / "model.c").write_text(model_source(program, sha256, 1, embedded=False), encoding="utf-8")
    (folder / "model.h").write_text(model_header(program, target, "0", embedded=False), encoding="utf-8")
    (folder / "threads_and_failures.c").write_text(THREADS_AND_FAILURES, encoding="utf-8")
    (folder / "every_status.c").write_text(EVERY_STATUS, encoding="utf-8")
    return folder


Build = Callable[..., Path]


@pytest.fixture(scope="module", params=["address,undefined", "thread"])
def build(request: pytest.FixtureRequest, sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Links files of `sources`, the runtime and other arguments under one sanitizer."""
    folder = tmp_path_factory.mktemp("programs")
    flags = ["-std=gnu11", "-O1", "-g", f"-fsanitize={request.param}", "-fno-sanitize-recover=all"]
    flags += [f"-I{sources}", f"-I{runtime_source('gossamer.h').parent}"]

    def link(*files: Path | str) -> Path:
        program = folder / "program"
        paths = [sources / file for file in files if not str(file).startswith("-")]
        more = [file for file in files if str(file).startswith("-")]
        paths += map(runtime_source, RUNTIME_FILES)
        # the model's library comes last: the runtime above, which is watched, replaces the one in it
        paths.sort(key=lambda path: path.suffix == ".a")
        built = run(compiler(), *flags, *more, *paths, "-lpthread", "-lm", "-o", program)
        if "cannot find" in built.stderr:
            pytest.skip(f"the compiler has no {request.param} sanitizer")
        assert built.returncode == 0, built.stderr
        return program

    return link


def test_sessions_of_several_threads_and_failing_kernels_are_clean(build: Build, sources: Path) -> None:
    program = build("threads_and_failures.c", "model.c", "slow_kernels.c")
    assert require_clean(run(program, sources)) == "done\n"


def test_what_is_wrong_is_reported(build: Build, sources: Path) -> None:
    done = run(build("threads_and_failures.c", "model.c", "wrong_kernels.c"), sources)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer cannot place its memory on this system")
    assert "Sanitizer" in done.stderr
    assert done.returncode != 0


def test_every_status_is_given_cleanly(toy: Any, build: Build, sources: Path) -> None:
    first, second = toy.artifact(), toy.artifact(name="other", embed_weights=True, threads=2)
    for name, artifact in (("first", first), ("second", second)):
        (sources / name).unlink(missing_ok=True)
        (sources / name).symlink_to(artifact)
    (sources / "short").write_bytes(bytes(95))
    (sources / "altered").write_bytes(bytes(96))
    program = build("every_status.c", first / "libmodel.a", second / "libmodel.a")
    printed = require_clean(run(program, first, second, sources / "short", sources / "altered"))
    assert "checks" in printed


def damaged(sources: Path, folder: Path) -> dict[str, Path | str]:
    """Places without the model's weights."""
    weights = (sources / "weights.bin").read_bytes()
    found: dict[str, Path | str] = {"nothing": folder / "nothing", "a long path": "x" * 5000, "no name": ""}
    for name, data in (("cut", weights[:-1]), ("longer", weights + b"0"), ("empty", b"")):
        found[name] = folder / name
        (folder / name).mkdir()
        (folder / name / "weights.bin").write_bytes(data)
    (folder / "altered").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    (folder / "a folder" / "weights.bin").mkdir(parents=True)
    (folder / "a loop").symlink_to(folder / "a loop")
    return found | {name: folder / name for name in ("altered", "a folder", "a loop")}


def test_the_example_is_clean_with_good_and_with_hostile_artifacts(
    toy: Any, build: Build, sources: Path, tmp_path: Path
) -> None:
    example = build(runtime_source("example.c"), "model.c", "kernels.c", "-DMODEL=gossamer_model_toy")
    for threads in (1, 2, 4):
        assert require_clean(run(example, sources, threads)).splitlines()[-1] == expected_line(toy)
    for wrong in ("-1", "17", "99999999999"):
        require_clean(run(example, sources, wrong), status=1)
    for name, place in damaged(sources, tmp_path).items():
        done = run(example, place, 2)
        require_clean(done, status=1)
        assert "weights" in done.stderr, name
    require_clean(run(example), status=2)


def test_the_runner_is_clean(toy: Any, build: Build, sources: Path, tmp_path: Path) -> None:
    runner = build(runtime_source("runner.c"), "model.c", "kernels.c", "-DMODEL=gossamer_model_toy")
    (tmp_path / "x").write_bytes(bytes(96))
    (tmp_path / "short").write_bytes(bytes(95))
    weights = sources / "weights.bin"
    require_clean(run(runner, weights, 4, 3, tmp_path / "x", tmp_path / "y"))
    assert len((tmp_path / "y").read_bytes()) == 96
    for arguments in (
        [weights, 1, 1],
        [weights, 1, 1, tmp_path / "short", tmp_path / "y"],
        [weights, 1, 1, tmp_path / "x", tmp_path / "none" / "y"],
        [tmp_path / "short", 1, 1, tmp_path / "x", tmp_path / "y"],
    ):
        require_clean(run(runner, *arguments), status=1)
