"""Our artifacts: native code and wasmtime in this process, WebAssembly also in Node and Chromium."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.runtime.errors import OptionError
from gossamer.runtime.manifest import Manifest

from ..engine import Engine, Tensor, check_fixed, resolved
from ..javascript import open_javascript
from ..options import match_inputs

__all__ = ["VARIANTS", "open_model"]

VARIANTS = ("in-process", "node", "chromium")


class _Artifact:
    def __init__(
        self, path: Path, threads: int | None, shapes: Mapping[str, Sequence[int]], budget_mb: float | None
    ) -> None:
        from gossamer.runtime.session import InferenceSession

        self.name = str(path)
        self._session = InferenceSession(path, threads=threads, budget_mb=budget_mb)
        manifest = self._session.manifest
        self.inputs, self.output_names = _inputs(manifest, shapes), [o.name for o in manifest.outputs]

    def run(self, feeds: Mapping[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        return list(self._session.run(None, dict(feeds)))


def open_model(
    path: Path,
    variant: str,
    threads: int | None,
    shapes: Mapping[str, Sequence[int]],
    budget_mb: float | None = None,
) -> Engine:
    """Open an artifact, with as much of its weights as a budget allows. Raises ArtifactError, OptionError."""
    if variant == "in-process":
        return _Artifact(path, threads, shapes, budget_mb)
    return _open_on_the_web(path, variant, threads, shapes)


def _open_on_the_web(
    path: Path, variant: str, threads: int | None, shapes: Mapping[str, Sequence[int]]
) -> Engine:
    from gossamer.runtime.artifact import open_artifact

    manifest = open_artifact(path).manifest
    if manifest.target.family != "wasm":
        raise OptionError(
            "only WebAssembly artifacts run there",
            where=f"gossamer@{variant}:{path}",
            got=manifest.target.name,
        )
    names = [o.name for o in manifest.outputs]
    return open_javascript("gossamer", variant, path, threads or 1, _inputs(manifest, shapes), names)


def _inputs(manifest: Manifest, shapes: Mapping[str, Sequence[int]]) -> list[Tensor]:
    """As they will be fed: sizes that the artifact leaves open are those of `shapes`, else 1."""
    match_inputs(shapes, [spec.name for spec in manifest.inputs])
    if manifest.table is not None:
        return [resolved(spec, shapes) for spec in manifest.inputs]
    inputs = [Tensor(spec.name, spec.dtype, spec.sizes(())) for spec in manifest.inputs]
    check_fixed(inputs, shapes)
    return inputs
