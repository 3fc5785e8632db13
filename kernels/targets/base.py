"""A target is data: one TOML file beside this one, found by its name."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from gossamer.runtime.errors import OptionError, nearest

__all__ = ["Target", "find_target", "target_names"]


@dataclass(frozen=True)
class Target:
    """What code generation, tile choice and linking need to know of a machine.

    `vector_bits` and `vector_registers` describe one SIMD register file; `l1_bytes` and `l2_bytes` are
    data caches of one core; `fma` says that a fused multiply-add is one instruction, of which
    `fma_per_cycle` start in a cycle beside `loads_per_cycle` vector loads. `broadcast` tells how a scalar
    reaches a multiply-add: as a "memory" operand, through one "register", as a "lane" of a register, or with
    "all" scalars of a step in registers at once (what engines make of WebAssembly). `variants` are the
    code files of one artifact, each a name with extra LLVM features (WebAssembly has two, others one).
    """

    name: str
    summary: str
    triple: str  # LLVM
    zig: str  # the same machine in zig's words
    family: str  # "x86", "arm64", "arm" or "wasm"
    container: str  # "elf", "macho" or "wasm"
    cpu: str = ""
    features: tuple[str, ...] = ()  # LLVM attributes, "+avx2"
    requires: tuple[str, ...] = ()  # as in /proc/cpuinfo; checked when an artifact is opened
    vector_bits: int = 128
    vector_registers: int = 16
    fma: bool = True
    fma_per_cycle: float = 2
    loads_per_cycle: float = 2
    broadcast: str = "register"
    unroll: int = 1  # steps of a sum in one turn of its loop
    l1_bytes: int = 32 * 1024
    l2_bytes: int = 512 * 1024
    pointer_bytes: int = 8
    variants: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"model": ()})

    @property
    def lanes(self) -> int:
        """float32 values in one vector register."""
        return self.vector_bits // 32


def _folder() -> Path:
    return Path(__file__).parent


@cache
def target_names() -> tuple[str, ...]:
    """Names of every target, sorted; `host` is this machine."""
    return tuple(sorted(["host", *(p.stem for p in _folder().glob("*.toml"))]))


def find_target(name: str, cpu: str | None = None) -> Target:
    """The target called `name`; `cpu` replaces its processor name. Raises OptionError."""
    if name not in target_names():
        raise OptionError(
            "unknown target",
            where=name,
            expected="one of " + ", ".join(target_names()),
            advice=nearest(name, target_names()),
        )
    if name == "host":
        from .host import host_target

        target = host_target()
    else:
        data = tomllib.loads((_folder() / f"{name}.toml").read_text(encoding="utf-8"))
        target = _from_toml(name, data)
    if cpu:
        from dataclasses import replace

        target = replace(target, cpu=cpu)
    return target


def _from_toml(name: str, data: dict[str, object]) -> Target:
    tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    if isinstance(variants := data.get("variants"), dict):
        tuples["variants"] = {k: tuple(v) for k, v in variants.items()}
    return Target(name=name, **tuples)  # type: ignore[arg-type]  # keys are checked by the constructor
