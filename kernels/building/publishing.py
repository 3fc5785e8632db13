"""Folders that appear whole or not at all: written aside, then renamed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gossamer.runtime.errors import JobError, OptionError
from gossamer.runtime.manifest import FORMAT, MANIFEST

__all__ = ["published_folder"]


@contextmanager
def published_folder(out: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes `out` when the block ends without an error.

    `out` may be absent, empty, an earlier artifact or a folder of such, which is replaced. Raises OptionError
    where it is anything else or its parent is missing, JobError where writing fails; then `out` is as it was.
    """
    out = Path(os.path.realpath(out))
    _check_place(out)
    staging: Path | None = None
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
        yield staging
        staging.chmod(0o777 & ~_umask())
        _replace(out, staging)
    except OSError as error:
        raise JobError("cannot be written", where=out, got=error.strerror or str(error)) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def _check_place(out: Path) -> None:
    if not out.parent.is_dir():
        raise OptionError("the parent folder is missing", where=out, advice=f"make {out.parent} first")
    if not out.exists():
        return
    if not out.is_dir():
        raise OptionError("is a file", where=out, expected="a folder to write, or nothing there")
    if not _is_artifact(out) and not all(_is_artifact(entry) for entry in out.iterdir()):
        raise OptionError(
            "is a folder with other things in it",
            where=out,
            expected="nothing there, an empty folder or an earlier artifact",
            advice="name another folder",
        )


def _is_artifact(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT


def _umask() -> int:
    value = os.umask(0o077)
    os.umask(value)
    return value


def _replace(out: Path, staging: Path) -> None:
    """Renames `staging` to `out`; an earlier artifact goes aside first and comes back when that fails."""
    if not out.exists() or not any(out.iterdir()):
        staging.rename(out)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".old", dir=out.parent))
    try:
        out.rename(aside)
        try:
            staging.rename(out)
        except BaseException:
            aside.rename(out)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
