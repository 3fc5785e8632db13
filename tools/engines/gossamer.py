"""Our artifacts: native code and wasmtime in this process, WebAssembly also in Node and Chromium."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.runtime.errors import OptionError
from gossamer.runtime.manifest import Manifest, TensorSpec

from ..engine import Engine, Tensor, check_fixed
from ..javascript import open_javascript

__all__ = ["VARIANTS", "open_model"]

VARIANTS = ("in-process", "node", "chromium")


class _Artifact:
    def __init__(self, path: Path, threads: int | None, budget_mb: float | None) -> None:
        from gossamer.runtime.session import InferenceSession

        self.name = str(path)
        self._session = InferenceSession(path, threads=threads, budget_mb=budget_mb)
        manifest = self._session.manifest
        self.inputs, self.output_names = _inputs(manifest), [o.name for o in manifest.outputs]

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
        engine: Engine = _Artifact(path, threads, budget_mb)
    else:
        engine = _open_on_the_web(path, variant, threads)
    check_fixed(engine.inputs, shapes)
    return engine


def _open_on_the_web(path: Path, variant: str, threads: int | None) -> Engine:
    from gossamer.runtime.artifact import open_artifact

    manifest = open_artifact(path).manifest
    if manifest.target.family != "wasm":
        raise OptionError(
            "only WebAssembly artifacts run there",
            where=f"gossamer@{variant}:{path}",
            got=manifest.target.name,
        )
    names = [o.name for o in manifest.outputs]
    return open_javascript("gossamer", variant, path, threads or 1, _inputs(manifest), names)


def _inputs(manifest: Manifest) -> list[Tensor]:
    return [_tensor(spec) for spec in manifest.inputs]


def _tensor(spec: TensorSpec) -> Tensor:
    return Tensor(spec.name, spec.dtype, tuple(spec.shape))
