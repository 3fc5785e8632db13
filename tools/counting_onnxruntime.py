"""onnxruntime for AArch64 under qemu: its C library, which the wheel holds, in a small program of ours."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.runtime.errors import JobError, OptionError

__all__ = ["LIBRARY_FOLDER", "SYSROOT", "run_onnxruntime"]

LIBRARY_FOLDER = Path(sys.prefix) / "aarch64"
SYSROOT = Path("/usr/aarch64-linux-gnu")
_PACKAGES = "libc6-arm64-cross libstdc++6-arm64-cross libgcc-s1-arm64-cross"
_MOST_SECONDS = 1800
# onnxruntime asks the kernel's text what processor this is, and does not start on an x86 machine's answer.
_CPUINFO = """\
processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0b
CPU revision\t: 1
"""


def run_onnxruntime(
    model: Path,
    feeds: Mapping[str, np.ndarray[Any, Any]],
    outputs: Sequence[str],
    repeats: int,
    options: Sequence[str],
) -> None:
    """Run `model` in onnxruntime for AArch64, one thread, with a counting mark before and after each run.

    `options` are words for the emulator. Raises OptionError where a part is not installed, JobError when
    the program fails.
    """
    from gossamer.kernels.building.emulating import find_emulator

    library = _library()
    with tempfile.TemporaryDirectory(prefix="gossamer-") as scratch:
        work = Path(scratch)
        root, program = _sysroot(work), _build(work)
        emulator = [find_emulator("arm64") or "qemu-aarch64", "-L", root, *options]
        words = [program, library, model, repeats, len(outputs), *outputs, *_inputs(feeds, work)]
        _run([str(word) for word in (*emulator, *words)], model)


def _library() -> Path:
    from importlib.metadata import version

    found = sorted(LIBRARY_FOLDER.glob("onnxruntime/capi/libonnxruntime.so.*"))
    if not found:
        command = (
            f"{sys.executable} -m pip install --target {LIBRARY_FOLDER} --platform manylinux_2_28_aarch64"
            f" --python-version 3.11 --only-binary :all: --no-deps onnxruntime=={version('onnxruntime')}"
        )
        raise OptionError(
            "counting onnxruntime's instructions needs its package for AArch64", advice=f"run {command}"
        )
    return found[-1]


def _sysroot(work: Path) -> Path:
    """A folder that stands for `/` in the program: the C and C++ libraries, and what the processor is."""
    for name in ("libc.so.6", "libstdc++.so.6", "libgcc_s.so.1"):
        if not (SYSROOT / "lib" / name).exists():
            raise OptionError(
                "counting onnxruntime's instructions needs AArch64's system libraries",
                where=SYSROOT / "lib" / name,
                advice=f"install them (Debian, Ubuntu: apt install {_PACKAGES})",
            )
    root = work / "root"
    (root / "proc").mkdir(parents=True)
    (root / "lib").symlink_to(SYSROOT / "lib")
    (root / "proc" / "cpuinfo").write_text(_CPUINFO)
    return root


def _build(work: Path) -> Path:
    from gossamer.kernels.building.toolchain import runtime_source, zig

    source = Path(__file__).with_name("peers") / "counting_onnxruntime.c"
    include = f"-I{runtime_source('counting_mark.h').parent}"
    program = work / "program"
    zig("cc", "-target", "aarch64-linux-gnu.2.28", "-O2", "-std=c11", include, source, "-o", program, "-ldl")
    return program


def _inputs(feeds: Mapping[str, np.ndarray[Any, Any]], work: Path) -> list[object]:
    """Name, element type, dimensions and file of each input, in the program's order."""
    from onnx.helper import np_dtype_to_tensor_dtype

    words: list[object] = []
    for index, (name, array) in enumerate(feeds.items()):
        file = work / f"input{index}"
        file.write_bytes(array.tobytes())
        words += [name, int(np_dtype_to_tensor_dtype(array.dtype)), ",".join(map(str, array.shape)), file]
    return words


def _run(command: list[str], model: Path) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_MOST_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise JobError("takes too long", where=model, expected=f"{_MOST_SECONDS} seconds") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        got = lines[-1] if lines else f"exit status {done.returncode}"
        raise JobError("the emulated onnxruntime failed", where=model, got=got)
