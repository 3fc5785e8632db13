"""Open whatever a path names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .engines import is_artifact

if TYPE_CHECKING:
    import onnx_ir as ir

    from gossamer.runtime.session import InferenceSession

__all__ = ["load"]


def load(path: str | Path, threads: int | None = None) -> InferenceSession | ir.Model:
    """A session for an artifact folder, an `onnx_ir.Model` for an ONNX file.

    Raises ArtifactError or ModelError when what lies there is broken, unsafe or missing.
    """
    place = Path(path)
    if is_artifact(place):
        from gossamer.runtime.session import InferenceSession

        return InferenceSession(place, threads=threads)
    from gossamer.passes.loading import load_model

    return load_model(place)
