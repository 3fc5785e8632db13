"""The C runtime under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gossamer.kernels.building.native import RUNTIME_FILES
from gossamer.kernels.building.sources import model_header, model_source
from gossamer.kernels.building.toolchain import runtime_source
from gossamer.kernels.targets import find_target

# Runs, profiles and failing runs, from two threads at once, with pauses after which workers sleep; the
# threads of a run wait for each other inside kernels long enough to sleep there too.
PROGRAM = r"""
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


def compiler() -> str:
    """A C compiler with sanitizers of its own: zig brings none."""
    found = shutil.which("gcc") or shutil.which("clang")
    if found is None:
        pytest.skip("needs gcc or clang")
    return found


@pytest.fixture(scope="module")
def sources(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the toy model in C, its descriptor, its weights and a program that uses it."""
    folder = tmp_path_factory.mktemp("sanitized")
    program, target = toy.program(), find_target("host")
    sha256 = hashlib.sha256(program.weights).hexdigest()
    (folder / "weights.bin").write_bytes(program.weights)
    (folder / "kernels.c").write_text(toy.source(extra=SLOW), encoding="utf-8")
    (folder / "model.c").write_text(model_source(program, sha256, 1, embedded=False), encoding="utf-8")
    (folder / "model.h").write_text(model_header(program, target, "0", embedded=False), encoding="utf-8")
    (folder / "main.c").write_text(PROGRAM, encoding="utf-8")
    return folder


@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_the_runtime_is_clean_under(sources: Path, tmp_path: Path, sanitizer: str) -> None:
    program = tmp_path / "program"
    files = [
        *(sources / name for name in ("main.c", "model.c", "kernels.c")),
        *map(runtime_source, RUNTIME_FILES),
    ]
    flags = ["-std=gnu11", "-O1", "-g", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    include = [f"-I{sources}", f"-I{runtime_source('gossamer.h').parent}"]
    built = run(compiler(), *flags, *include, *files, "-lpthread", "-o", program)
    if "cannot find" in built.stderr:
        pytest.skip(f"the compiler has no {sanitizer} sanitizer")
    assert built.returncode == 0, built.stderr
    done = run(program, sources)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer cannot place its memory on this system")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "done\n"


def run(*command: object) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
