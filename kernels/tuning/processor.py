"""What the processor of this machine calls itself."""

from __future__ import annotations

import platform
from pathlib import Path

__all__ = ["processor_name"]

_WORDS = ("model name", "CPU implementer", "CPU part", "CPU variant")


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """As /proc/cpuinfo has it for the first core, else what Python knows."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in _WORDS:
            found.setdefault(key.strip(), value.strip())
    return (
        " ".join(found[word] for word in _WORDS if word in found)
        or platform.processor()
        or platform.machine()
    )
