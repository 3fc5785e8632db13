"""Object files of a Program: TIR through LLVM, one for each code variant of the target."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx as tir
from tvm.target import Target as LlvmTarget

from ..cpu.isa import Isa
from ..program import Program
from ..targets.base import Target

__all__ = ["compiled", "compiled_module", "emit_objects", "llvm_target"]


def llvm_target(isa: Isa) -> Any:
    """TVM's description of the machine."""
    options: dict[str, Any] = {"kind": "llvm", "mtriple": isa.target.triple, "opt-level": 3}
    if isa.target.family == "wasm":
        options["vector-width"] = isa.target.vector_bits  # else TVM warns that it guessed so
    if isa.target.family == "arm":
        options["mfloat-abi"] = "hard"  # else calls of libm pass floats where it does not look for them
    if isa.target.cpu:
        options["mcpu"] = isa.target.cpu
    if isa.features:
        options["mattr"] = list(isa.features)
    return LlvmTarget(options)


def emit_objects(program: Program, target: Target) -> dict[str, bytes]:
    """Object file of every variant, by its name."""
    return {variant: _emit(program, Isa(target, variant)) for variant in target.variants}


def _emit(program: Program, isa: Isa) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.o"
        compiled(program, isa).write_to_file(str(path))
        return path.read_bytes()


def compiled(program: Program, isa: Isa) -> Any:
    """TVM's runtime module of one variant; its `inspect_source("asm")` shows the code."""
    return compiled_module(program.module(isa.variant), isa)


def compiled_module(module: Any, isa: Isa) -> Any:
    """TVM's runtime module of an IRModule of C functions."""
    target = llvm_target(isa)
    passes = [
        tir.transform.BindTarget(target.with_host(target)),
        tir.transform.VectorizeLoop(True),
        tir.transform.LowerTVMBuiltin(),
        tir.transform.LowerIntrin(),
    ]
    for apply in passes:  # one by one: a Sequential of them takes minutes on shared subexpressions
        module = apply(module)
    return tvm.get_global_func("target.build.llvm")(module, target)
