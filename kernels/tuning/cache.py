"""Measured times, kept from one compilation to the next.

One JSON file for all models. A time holds for one generator (the sources of this package are hashed), one
processor, one set of instructions and one layer; a file that cannot be understood counts as empty.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

__all__ = ["TimingCache", "default_path"]

_FORMAT = "gossamer-tuning-1"


def default_path() -> Path:
    """tuning.json in the user's cache folder ($XDG_CACHE_HOME or ~/.cache)."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if os.path.isabs(given) else Path("~/.cache").expanduser()
    return base / "gossamer" / "tuning.json"


@cache
def _generator() -> str:
    """A digest of the code that generates kernels: other kernels have other times."""
    digest = hashlib.sha256()
    root = Path(str(files("gossamer.kernels")))
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


class TimingCache:
    """Times in seconds of the ways to compute a layer, by whatever tells layers and machines apart."""

    def __init__(self, path: Path | None = None, version: str | None = None) -> None:
        self._path = path or default_path()
        self._version = version or _generator()

    def get(self, key: object) -> dict[str, float] | None:
        """Times by label, None where the layer was not measured."""
        return _times(self._entries().get(_digest(key)))

    def put(self, key: object, layer: str, times: Mapping[str, float]) -> None:
        """Adds a layer. A file that cannot be written stays as it is."""
        entries = {**self._entries(), _digest(key): {"layer": layer, "seconds": dict(times)}}
        text = json.dumps({"format": _FORMAT, "version": self._version, "entries": entries}, indent=1)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _replace(self._path, text)
        except OSError:
            return

    def _entries(self) -> dict[str, Any]:
        """What the file holds now; another process may have added to it."""
        try:
            data = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        known = isinstance(data, dict) and (data.get("format"), data.get("version")) == (
            _FORMAT,
            self._version,
        )
        entries = data.get("entries") if known else None
        return entries if isinstance(entries, dict) else {}


def _digest(key: object) -> str:
    return hashlib.sha256(repr(key).encode()).hexdigest()


def _times(entry: object) -> dict[str, float] | None:
    """The times of an entry, None unless they are what we write."""
    seconds = entry.get("seconds") if isinstance(entry, dict) else None
    if not isinstance(seconds, dict) or not seconds:
        return None
    if not all(isinstance(s, float) and math.isfinite(s) and s > 0 for s in seconds.values()):
        return None
    return seconds


def _replace(path: Path, text: str) -> None:
    """Writes beside the file, then renames: a reader sees the old text or the new one."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
