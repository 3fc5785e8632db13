"""Whether this machine can run the code of an artifact."""

from __future__ import annotations

import platform
import sys
from functools import cache
from pathlib import Path

from .errors import ArtifactError
from .manifest import TargetSpec

__all__ = ["check_machine", "cpu_flags"]

FAMILY_OF_MACHINE = {
    "x86_64": "x86",
    "amd64": "x86",
    "aarch64": "arm64",
    "arm64": "arm64",
    "armv7l": "arm",
    "armv8l": "arm",
}


@cache
def cpu_flags() -> frozenset[str]:
    """Feature words of this processor, as in /proc/cpuinfo; empty where the file is absent."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def check_machine(target: TargetSpec) -> None:
    """Raises ArtifactError when `target` is another processor family or system, or lacks a feature."""
    machine = platform.machine().lower()
    family = FAMILY_OF_MACHINE.get(machine, machine)
    if family == "arm64" and sys.maxsize < 1 << 32:  # a 32-bit Python on a 64-bit kernel
        family = "arm"
    if target.family != family:
        raise _not_for(target, f"processor family {target.family}", machine)
    system = _system()
    if _system_of(target) != system:
        raise _not_for(target, _system_of(target), system)
    flags = cpu_flags()
    missing = [word for word in target.requires if flags and word not in flags]
    if missing:
        got = "one without " + ", ".join(missing)
        raise _not_for(target, "a processor with " + ", ".join(target.requires), got)


def _not_for(target: TargetSpec, expected: str, got: str) -> ArtifactError:
    return ArtifactError(
        "this machine cannot run the artifact",
        where=f"target {target.name}",
        expected=expected,
        got=got,
        advice="compile the model for this machine (--target host)",
    )


def _system() -> str:
    if hasattr(sys, "getandroidapilevel"):
        return "android"
    return {"darwin": "apple"}.get(sys.platform, sys.platform)


def _system_of(target: TargetSpec) -> str:
    if "android" in target.triple:
        return "android"
    return "apple" if target.container == "macho" else "linux"
