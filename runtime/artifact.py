"""An artifact on disk: a folder whose files are checked before they are used."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from .errors import ArtifactError
from .manifest import MANIFEST, CodeSpec, Manifest, read_manifest

__all__ = ["Artifact", "open_artifact"]


@dataclass(frozen=True)
class Artifact:
    """A folder and its checked manifest; files are checked one by one, when they are asked for."""

    path: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """The path of file `name` after its place, size and SHA-256 were checked. Raises ArtifactError."""
        path = self.unread(name)
        spec = self.manifest.files[name]
        digest = _sha256(path)
        if digest != spec.sha256:
            raise ArtifactError(
                "has the wrong SHA-256; it was altered or damaged",
                where=path,
                expected=spec.sha256[:16] + "…",
                got=digest[:16] + "…",
                advice="compile the model again or copy the folder again",
            )
        return path

    def unread(self, name: str) -> Path:
        """The path of file `name` after its place and size were checked, not what is in it."""
        if name not in self.manifest.files:
            raise ArtifactError("is not listed in the manifest", where=self.path / name)
        spec = self.manifest.files[name]
        path = _inside(self.path, name)
        size = path.stat().st_size
        if size != spec.bytes:
            raise ArtifactError(
                "has the wrong size; it was cut or replaced",
                where=path,
                expected=f"{spec.bytes} bytes",
                got=f"{size}",
            )
        return path

    def code(self, role: str) -> tuple[CodeSpec, ...]:
        """The code files of one role; there may be none."""
        return tuple(code for code in self.manifest.code if code.role == role)


def open_artifact(path: str | os.PathLike[str]) -> Artifact:
    """Reads the manifest of the folder `path`. Raises ArtifactError."""
    folder = Path(path)
    if not folder.is_dir():
        got = "a file" if folder.exists() else "nothing"
        raise ArtifactError("is not an artifact", where=folder, expected=f"a folder with {MANIFEST}", got=got)
    if not (folder / MANIFEST).exists():
        raise ArtifactError("is not an artifact", where=folder, expected=f"a {MANIFEST} in it")
    return Artifact(folder, read_manifest(_inside(folder, MANIFEST)))


def _inside(folder: Path, name: str) -> Path:
    """The file `name` of `folder`, links followed, which must not lead out of the folder."""
    try:
        found = (folder / name).resolve(strict=True)
        root = folder.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ArtifactError("is missing", where=folder / name) from error
    if found.parent != root:
        raise ArtifactError("is a link that leads out of the artifact", where=folder / name)
    if not found.is_file():
        raise ArtifactError("is not a file", where=folder / name)
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
