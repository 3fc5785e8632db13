"""Calls of zig's C compiler, linkers and archiver, which the package ziglang brings along."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from gossamer.runtime.errors import JobError, OptionError

from ..targets import Target

__all__ = ["ToolError", "compile_c", "compile_runtime", "platform_triple", "runtime_source", "zig"]

# The oldest glibc that has 64-bit ARM: what is linked against it loads on any Linux since 2013.
GLIBC = "2.17"
C_FLAGS = (
    "-std=c11",
    "-O2",
    "-fPIC",
    "-g0",
    "-fvisibility=hidden",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-Werror",
)


class ToolError(JobError):
    """A compiler or linker refused; `output` is all it said."""

    def __init__(self, tool: str, output: str) -> None:
        self.output = output
        lines = [line for line in output.splitlines() if "error" in line] or output.splitlines()[-1:]
        super().__init__(f"{tool} failed", got=lines[0][:300] if lines else "no message")


def zig(*arguments: str | os.PathLike[str], folder: Path | None = None) -> str:
    """Runs one of zig's tools in `folder`; what it printed. Raises ToolError."""
    command = [*_zig(), *(os.fspath(argument) for argument in arguments)]
    done = subprocess.run(
        command,
        cwd=folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        raise ToolError(f"zig {os.fspath(arguments[0])}", done.stdout)
    return done.stdout


@cache
def _zig() -> tuple[str, ...]:
    """The program itself where it lies as ever; starting Python to start it takes longer than it does."""
    found = find_spec("ziglang")
    if found is None or found.origin is None:
        raise OptionError(
            "building artifacts needs the compiler in ziglang",
            advice="install it: pip install 'gossamer[compile]'",
        )
    program = Path(found.origin).with_name("zig")
    return (str(program),) if os.access(program, os.X_OK) else (sys.executable, "-m", "ziglang")


@cache
def _cache_folder() -> str | None:
    """Where zig keeps what it compiled; None leaves that to zig, which wants a writable home."""
    if "ZIG_GLOBAL_CACHE_DIR" in os.environ:
        return None
    home = Path.home()
    if os.access(home, os.W_OK | os.X_OK):
        return None
    return tempfile.mkdtemp(prefix="gossamer-zig-")


def _environment() -> dict[str, str]:
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    if folder := _cache_folder():
        environment["ZIG_GLOBAL_CACHE_DIR"] = folder
    return environment


def platform_triple(target: Target) -> str:
    """zig's name of the machine, with the C library's version where there is one to choose."""
    return f"{target.zig}.{GLIBC}" if "linux-gnu" in target.zig else target.zig


def compile_c(source: Path, out: Path, triple: str, *flags: str) -> Path:
    """Compiles one C file of ours to the object `out`. Raises ToolError."""
    if "android" in triple:
        # For Android itself clang calls atomic helpers that bionic lacks, and zig drops the option against
        # it. The sources use no headers of the C library there, and x18 is the one register that differs.
        triple, flags = triple.replace("android", "musl"), ("-D__ANDROID__", "-ffixed-x18", *flags)
    zig("cc", "-target", triple, *C_FLAGS, *flags, "-c", source, "-o", out)
    return out


def compile_runtime(name: str, work: Path, triple: str, *flags: str) -> Path:
    """Compiles a C file of the runtime into `work`, once for each process. Raises ToolError."""
    out = work / f"{Path(name).stem}.o"
    out.write_bytes(_runtime_object(name, triple, flags))
    return out


@cache
def _runtime_object(name: str, triple: str, flags: tuple[str, ...]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="gossamer-") as folder:
        return compile_c(runtime_source(name), Path(folder) / "runtime.o", triple, *flags).read_bytes()


def runtime_source(name: str) -> Path:
    """The path of a file of the C runtime."""
    return Path(str(files("gossamer.runtime"))) / "c" / name
