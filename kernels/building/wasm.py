"""Links WebAssembly artifacts: one module for each variant, and the files of the web runtime."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from gossamer.runtime.errors import JobError
from gossamer.runtime.manifest import CodeSpec

from ..program import Program
from ..targets import Target
from .sources import weights_source
from .toolchain import ToolError, compile_c, compile_runtime, runtime_source, zig
from .wasm_module import read_module
from .wasm_offsets import fold_offsets

__all__ = ["build_wasm"]

STACK_BYTES = 65536  # first in memory, so that an overflow traps instead of overwriting data
MOST_BYTES = (1 << 32) - (1 << 16)  # one bit makes an import with a maximum shared, for threads
WEIGHTS_SYMBOL = "gossamer_weights"
STACK_SYMBOL = "__stack_pointer"  # each further thread has a stack of its own


def build_wasm(
    program: Program, objects: Mapping[str, bytes], target: Target, work: Path, out: Path, *, embed: bool
) -> list[CodeSpec]:
    """Links each of `objects` into `out`/<variant>.wasm and copies the web runtime. Raises JobError.

    `work` holds intermediate files and, to `embed` it, weights.bin.
    """
    support = [compile_runtime("wasm_support.c", work, target.zig, "-mbulk-memory")]
    if embed:
        source = work / "weights.c"
        source.write_text(weights_source(WEIGHTS_SYMBOL, "weights.bin"), encoding="utf-8")
        support.append(compile_c(source, work / "weights.o", target.zig))
    codes = []
    for variant, code in objects.items():
        (work / f"{variant}.o").write_bytes(code)
        exports = [program.symbol, "__heap_base", STACK_SYMBOL, *([WEIGHTS_SYMBOL] if embed else [])]
        exports += [program.table.symbol] if program.table else []
        file = out / f"{variant}.wasm"
        _link([work / f"{variant}.o", *support], exports, file)
        file.write_bytes(fold_offsets(file.read_bytes()))
        codes.append(_describe(file, exports, relaxed="+relaxed-simd" in target.variants[variant]))
    _copy_web_runtime(out)
    return codes


def _link(objects: list[Path], exports: list[str], out: Path) -> None:
    """Links with our few support functions alone; where libm functions are called, with zig's C library.

    zig compiles that library when it is first asked for, which takes half a minute.
    """
    flags = ["--no-entry", "--import-memory", "--gc-sections", "--strip-all", f"--max-memory={MOST_BYTES}"]
    flags += [f"--export={name}" for name in exports]
    try:
        zig("wasm-ld", *flags, "--stack-first", "-z", f"stack-size={STACK_BYTES}", *objects, "-o", out)
    except ToolError as error:
        if "undefined symbol" not in error.output:
            raise
        wrapped = [f"-Wl,{flag}" for flag in [*flags, f"-z,stack-size={STACK_BYTES}"]]
        zig(
            "cc",
            "-target",
            "wasm32-wasi",
            "-O2",
            "-mexec-model=reactor",
            "-nostartfiles",
            *wrapped,
            *objects,
            "-o",
            out,
        )


def _describe(file: Path, exports: list[str], *, relaxed: bool) -> CodeSpec:
    module = read_module(file.read_bytes())
    if foreign := set(module.imports) - {"env.memory", "env.sync"}:
        raise JobError("the module imports more than it may", where=file.name, got=", ".join(foreign))
    if missing := set(exports) - set(module.exports):
        raise JobError("the module does not export its entry", where=file.name, expected=", ".join(missing))
    return CodeSpec(
        "wasm",
        file.name,
        relaxed=relaxed,
        heap_base=module.constants["__heap_base"],
        initial_pages=module.memory_pages,
    )


def _copy_web_runtime(out: Path) -> None:
    web = runtime_source("").parent / "web"
    for path in [
        *sorted((web / "dist").glob("*.js")),
        web / "index.html",
    ]:
        if path.is_file():
            shutil.copyfile(path, out / path.name)
