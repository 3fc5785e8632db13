"""Links native artifacts: shared library, static library, object."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gossamer.runtime.errors import JobError
from gossamer.runtime.manifest import CodeSpec

from ..program import Program
from ..targets import Target
from .elf import dynamic_symbols
from .platform_symbols import LIBC, LIBM
from .sources import c_name, model_source, weights_source
from .toolchain import compile_c, compile_runtime, platform_triple, runtime_source, zig

__all__ = ["RUNTIME_FILES", "Linking", "build_native", "compile_members"]

RUNTIME_FILES = ("session.c", "threads.c", "sha256.c", "manifest.c", "json.c", "folder.c", "features.c")
ANDROID_PAGE = 16384  # bytes; Android 15 has devices with pages of this size
SYSTEM_LIBRARIES = ("-lc", "-lm", "-lpthread")
SHARED, STATIC, OBJECT = "model.so", "libmodel.a", "model.o"


@dataclass(frozen=True)
class Linking:
    """The weights' hash in hex, the default of threads, and whether to embed the weights.

    A `trial` is a shared library alone, which only a process can load that has the C library already.
    """

    sha256: str
    threads: int
    embed: bool
    trial: bool = False


@dataclass(frozen=True)
class _Build:
    """One native build: intermediate files go to `work`, shipped ones to `out`."""

    program: Program
    target: Target
    work: Path
    out: Path

    @property
    def exports(self) -> Path:
        """A linker script that names what model.so shows."""
        script = self.work / "exports.map"
        script.write_text(
            f"{{ global: gossamer_open; gossamer_open_memory; gossamer_describe; gossamer_run;"
            f" gossamer_profile; gossamer_sizes; gossamer_run_sized; gossamer_profile_sized;"
            f" gossamer_close; gossamer_error; gossamer_check;"
            f" gossamer_model_{c_name(self.program)}; local: *; }};\n"
        )
        return script


def build_native(
    program: Program,
    code: bytes,
    target: Target,
    work: Path,
    out: Path,
    how: Linking,
) -> list[CodeSpec]:
    """Links `code`, an object file, with the runtime into `out`; what was written. Raises JobError.

    `work` holds intermediate files and, to embed it, weights.bin.
    """
    build = _Build(program, target, work, out)
    (work / "code.o").write_bytes(code)
    source = model_source(program, how.sha256, how.threads, embedded=how.embed, requires=target.requires)
    members = compile_members(source, work, platform_triple(target))
    if how.trial:
        return [_link_trial(build, [*members, work / "code.o"])]
    members.append(_without_debug(build, work / "code.o"))
    if how.embed:
        members.append(_embed(build))
    written = [_archive(build, members)]
    if target.container == "macho":
        zig("cc", "-target", target.zig, "-r", "-g0", *members, "-o", out / OBJECT)
        return [*written, CodeSpec("object", OBJECT)]
    _link_shared(build, members)
    return [CodeSpec("shared", SHARED), *written]


def compile_members(source: str, work: Path, triple: str) -> list[Path]:
    """Objects of the descriptor `source` and of the C runtime, for one machine."""
    (work / "model.c").write_text(source, encoding="utf-8")
    include = f"-I{runtime_source('gossamer.h').parent}"
    model = compile_c(work / "model.c", work / "model.o", triple, include)
    return [model, *(compile_runtime(name, work, triple, include) for name in RUNTIME_FILES)]


def _link_trial(build: _Build, members: list[Path]) -> CodeSpec:
    script = f"--version-script={build.exports}"
    zig("ld.lld", "-shared", "--gc-sections", "-Bsymbolic", script, *members, "-o", build.out / SHARED)
    return CodeSpec("shared", SHARED)


def _without_debug(build: _Build, code: Path) -> Path:
    """The object without debug information, which names files of the machine that compiled it."""
    if build.target.container == "macho":
        return code
    script, stripped = build.work / "no_debug.ld", build.work / "kernels.o"
    script.write_text("SECTIONS { /DISCARD/ : { *(.debug*) *(.rel.debug*) *(.rela.debug*) *(.comment) } }\n")
    zig("ld.lld", "-r", "-T", script, code, "-o", stripped)  # -r ignores --strip-debug
    return stripped


def _embed(build: _Build) -> Path:
    source = build.work / "weights.c"
    symbol = f"gossamer_weights_{c_name(build.program)}"
    source.write_text(weights_source(symbol, "weights.bin"), encoding="utf-8")
    return compile_c(source, build.work / "weights.o", platform_triple(build.target))


def _archive(build: _Build, members: list[Path]) -> CodeSpec:
    layout = "darwin" if build.target.container == "macho" else "gnu"
    zig("ar", f"--format={layout}", "rcsD", build.out / STATIC, *members)
    return CodeSpec("static", STATIC)


def _link_shared(build: _Build, members: list[Path]) -> None:
    """Links model.so; with the compiler's own library only where something in it is called.

    zig compiles that library when it is first asked for, which takes half a minute.
    """
    command: list[str | Path] = [
        *("cc", "-target", platform_triple(build.target), "-shared", "-O2", "-s", "-nostartfiles"),
        *("-nodefaultlibs", f"-Wl,-soname,{SHARED}", "-Wl,--gc-sections", "-Wl,-Bsymbolic"),
        *(f"-Wl,--version-script={build.exports}", "-Wl,--as-needed", "-o", build.out / SHARED),
        *members,
    ]
    if "android" in build.target.zig:
        page = f"-Wl,-z,max-page-size={ANDROID_PAGE}"
        zig(*command, "-nostdlib", page, *_android_libraries(build))
    else:
        zig(*command, *SYSTEM_LIBRARIES, "-rtlib=none")
        if _foreign(build):
            zig(*command, *SYSTEM_LIBRARIES)
    if foreign := _foreign(build):
        raise JobError(
            "the code calls functions that no system library has",
            where=SHARED,
            got=", ".join(sorted(foreign)[:10]),
        )


def _foreign(build: _Build) -> set[str]:
    """Undefined symbols of model.so outside libc and libm."""
    undefined, _ = dynamic_symbols((build.out / SHARED).read_bytes())
    return undefined - LIBC - LIBM


def _android_libraries(build: _Build) -> list[Path]:
    """Libraries to link against that name bionic's and what they export; zig brings none along."""
    made = []
    for name, symbols in (("libc.so", LIBC), ("libm.so", LIBM)):
        lines = "".join(f'".globl {s}\\n.type {s}, @function\\n{s}:\\n"\n' for s in sorted(symbols))
        source = build.work / f"{name}.c"
        source.write_text(f'__asm__(".text\\n"\n{lines});\n')
        obj = compile_c(source, build.work / f"{name}.o", build.target.zig)
        made.append(build.work / name)
        zig(
            "cc",
            "-target",
            build.target.zig,
            "-shared",
            "-nostdlib",
            f"-Wl,-soname,{name}",
            obj,
            "-o",
            made[-1],
        )
    return made
