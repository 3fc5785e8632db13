"""Folders that appear whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gossamer.runtime.errors import OptionError

__all__ = ["replacing_folder"]

_MANIFEST = "manifest.json"


@contextmanager
def replacing_folder(out: Path) -> Iterator[Path]:
    """Give a path beside `out` to build a folder at; on success it becomes `out`, on failure it goes.

    An earlier artifact (or folder of artifacts) at `out` is replaced; anything else is refused with
    OptionError, because it may be the user's.
    """
    _refuse_foreign(out)
    workplace = Path(tempfile.mkdtemp(dir=out.absolute().parent, prefix=f".{out.name}.", suffix=".part"))
    try:
        staging = workplace / "new"
        yield staging
        if out.exists():
            os.rename(out, workplace / "old")
        try:
            os.rename(staging, out)
        except OSError:
            if (workplace / "old").exists():
                os.rename(workplace / "old", out)
            raise
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def _refuse_foreign(out: Path) -> None:
    if not out.exists() and not out.is_symlink():
        return
    if out.is_dir() and not out.is_symlink() and _is_ours(out):
        return
    raise OptionError(
        "something else is there already",
        where=out,
        expected="a new path, an empty folder or an earlier artifact",
        advice="choose another -o or remove it",
    )


def _is_ours(folder: Path) -> bool:
    """Whether it is an artifact with nothing added, a folder of such artifacts only, or empty."""
    if (folder / _MANIFEST).is_file():
        return _is_artifact(folder)
    return all(entry.is_dir() and _is_artifact(entry) for entry in folder.iterdir())


def _is_artifact(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        listed = {_MANIFEST, *manifest["files"]} if manifest["format"] == "gossamer-artifact" else None
    except (OSError, ValueError, KeyError, TypeError):
        return False
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    return listed is not None and found <= listed
