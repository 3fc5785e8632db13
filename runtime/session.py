"""Sessions, as users of onnxruntime know them."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from .artifact import Artifact, open_artifact
from .errors import FeedError, JobError, OptionError, nearest
from .feeds import check_feeds
from .manifest import DTYPES, MOST_THREADS, Manifest, TensorSpec

__all__ = ["InferenceSession", "NodeArg"]

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class NodeArg:
    """An input or output: `type` is onnxruntime's name, "tensor(float)"; `dtype` numpy's, "float32".

    A size that each run may choose is a name in `shape`, or a formula of names.
    """

    name: str
    shape: list[int | str]
    type: str
    dtype: str


class Engine(Protocol):
    """What runs the code: contiguous inputs in, fresh outputs out."""

    def run(self, inputs: Sequence[Array]) -> list[Array]: ...
    def profile(self, inputs: Sequence[Array], kernels: int) -> Array: ...
    def set_budget(self, budget_mb: float) -> int: ...
    def close(self) -> None: ...


class InferenceSession:
    """A compiled model, ready to run.

    `path` is an artifact's folder. `threads` counts the threads of one run; None takes the artifact's.
    `engine` forces one build of a WebAssembly artifact, "simd" or "relaxed". `budget_mb` (of 1,000,000 bytes)
    is how much of the weights to load, where blocks of them may be left out (the pass stack-bits); None loads
    all. A session may be used from several threads, its runs then happen one after another. Raises
    ArtifactError and OptionError.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        threads: int | None = None,
        *,
        engine: str | None = None,
        budget_mb: float | None = None,
    ) -> None:
        artifact = open_artifact(path)
        self._manifest = artifact.manifest
        self._engine = _start(artifact, threads, engine, budget_mb)
        self._lock = threading.Lock()
        self._closed = False
        self._finalizer = weakref.finalize(self, self._engine.close)

    @property
    def manifest(self) -> Manifest:
        """What the artifact says of itself."""
        return self._manifest

    def get_inputs(self) -> list[NodeArg]:
        """The inputs in the model's order."""
        return [_node_arg(tensor) for tensor in self._manifest.inputs]

    def get_outputs(self) -> list[NodeArg]:
        """The outputs in the model's order."""
        return [_node_arg(tensor) for tensor in self._manifest.outputs]

    def run(self, output_names: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[Array]:
        """Fresh arrays for the outputs named, in that order; None means all. Raises FeedError, JobError.

        `feeds` gives one array to each input, of its shape and type. Sizes of one name must be the same.
        """
        wanted = self._output_indices(output_names)
        arrays = check_feeds(self._manifest.inputs, feeds)
        with self._lock:
            self._check_open()
            outputs = self._engine.run(arrays)
        return [outputs[i] for i in wanted]

    def profile(self, feeds: Mapping[str, Any]) -> Array:
        """When each thread was done with each kernel of one run: (threads, kernels, 2) int64 nanoseconds.

        The first time is that of its own share, the second that of the barrier after it; both count from the
        start of the run. Kernels are those of `manifest.steps`. Raises FeedError, JobError.
        """
        arrays = check_feeds(self._manifest.inputs, feeds)
        with self._lock:
            self._check_open()
            return self._engine.profile(arrays, len(self._manifest.steps))

    def set_budget(self, budget_mb: float) -> int:
        """Loads more blocks of the weights, or forgets some; the bytes of weights that are loaded then.

        Outputs are those of a session opened with this budget. Raises OptionError where the budget is too
        small or the session was opened without one, and ArtifactError where the file is damaged.
        """
        with self._lock:
            self._check_open()
            return self._engine.set_budget(budget_mb)

    def _check_open(self) -> None:
        if self._closed:
            raise JobError("the session is closed", where=self._manifest.name)

    def _output_indices(self, names: Sequence[str] | None) -> list[int]:
        known = [tensor.name for tensor in self._manifest.outputs]
        if names is None:
            return list(range(len(known)))
        for name in names:
            if name not in known:
                raise FeedError(
                    "is not an output of the model",
                    where=repr(name),
                    expected=", ".join(known),
                    advice=nearest(str(name), known),
                )
        return [known.index(name) for name in names]

    def close(self) -> None:
        """Frees memory and code; the session cannot run again. May be called again."""
        with self._lock:
            self._closed = True
            self._finalizer()

    def __enter__(self) -> InferenceSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _node_arg(tensor: TensorSpec) -> NodeArg:
    return NodeArg(tensor.name, list(tensor.shape), f"tensor({DTYPES[tensor.dtype]})", tensor.dtype)


def _start(artifact: Artifact, threads: int | None, engine: str | None, budget_mb: float | None) -> Engine:
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise OptionError("wrong number of threads", expected=f"1..{MOST_THREADS}", got=threads)
    if artifact.manifest.target.family == "wasm":
        if threads not in (None, 1):
            raise OptionError("WebAssembly artifacts run on one thread", expected=1, got=threads)
        from .wasm import WasmEngine

        return WasmEngine(artifact, engine, budget_mb)
    if engine is not None:
        raise OptionError("only WebAssembly artifacts have engines to choose from", got=engine)
    from .native import NativeEngine

    return NativeEngine(artifact, threads or artifact.manifest.threads, budget_mb)
