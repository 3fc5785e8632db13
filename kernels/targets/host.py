"""The machine that runs the compiler: the best fitting target file."""

from __future__ import annotations

import platform
import sys
from dataclasses import replace

from gossamer.runtime.errors import OptionError
from gossamer.runtime.machine import cpu_flags

from .base import Target, find_target

__all__ = ["host_target"]


def host_target() -> Target:
    """The richest target whose `requires` this processor has, renamed `host`."""
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        names = ["x86-64-v4-vnni", "x86-64-v4", "x86-64-v3-vnni", "x86-64-v3", "x86-64-v2"]
    elif machine in ("aarch64", "arm64"):
        linux = ["arm64-linux-i8mm", "arm64-linux-dotprod", "arm64-linux"]
        names = ["arm64-apple"] if sys.platform == "darwin" else linux
    else:
        raise OptionError("no target fits this machine", where="host", got=machine, advice="name a target")
    flags = cpu_flags()
    for name in names:
        target = find_target(name)
        if not flags or set(target.requires) <= flags:
            return replace(target, name="host", summary=f"this machine ({name})")
    raise OptionError("this processor is older than every x86-64 target", where="host", expected="SSE4.2")
