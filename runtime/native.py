"""Runs native code through the C interface that is linked into every shared library."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .artifact import Artifact
from .element_types import array_type
from .errors import ArtifactError, JobError, OptionError
from .library import Library
from .machine import check_machine
from .partial import PartialWeights
from .specs import TableSpec
from .tables import cut, refused_sizes, symbol_values

__all__ = ["NativeEngine"]

Array = np.ndarray[Any, np.dtype[Any]]


class NativeEngine:
    """A session of the C runtime. `run` releases the interpreter lock; one call at a time, closed once."""

    def __init__(self, artifact: Artifact, threads: int, budget_mb: float | None = None) -> None:
        manifest = artifact.manifest
        shared = artifact.code("shared")
        if not shared:
            raise ArtifactError(
                "holds no shared library",
                where=artifact.path,
                expected="a code file with role shared",
                got=", ".join(code.file for code in manifest.code),
                advice="link its object or static library into a program",
            )
        check_machine(manifest.target)
        self._threads = threads
        self._library = Library.load(artifact.file(shared[0].file))
        self._session = ctypes.c_void_p()
        self._weights: mmap.mmap | None = None
        self._partial: PartialWeights | None = None
        self._closed = False
        try:
            self._open(artifact, threads, budget_mb)
        except BaseException:
            self.close()
            raise
        self._inputs, self._outputs, self._table = manifest.inputs, manifest.outputs, manifest.table
        self._input_type = ctypes.c_void_p * len(manifest.inputs)
        self._output_type = ctypes.c_void_p * len(manifest.outputs)

    def _open(self, artifact: Artifact, threads: int, budget_mb: float | None) -> None:
        manifest = artifact.manifest
        self._model = model = self._library.model(manifest)
        session = ctypes.byref(self._session)
        if budget_mb is not None:
            size = max(1, manifest.weights.bytes)
            self._weights = mmap.mmap(-1, size)  # pages that are not written to take no memory
            self._partial = PartialWeights(artifact, memoryview(self._weights))
            self._partial.resize(budget_mb)
            start: int = np.frombuffer(self._weights, np.uint8).ctypes.data
            opened = self._library.code.gossamer_open_memory
            status = opened(model, start, manifest.weights.bytes, threads, session)
        elif manifest.weights.file is None:
            status = self._library.code.gossamer_open(model, None, threads, session)
        else:
            size = manifest.weights.bytes
            address, self._weights = _map(artifact.file(manifest.weights.file), size)
            status = self._library.code.gossamer_open_memory(model, address, size, threads, session)
        if status != 0:
            raise ArtifactError("cannot be opened", where=artifact.path, got=self._library.error(status))

    def set_budget(self, budget_mb: float) -> int:
        """Loads or forgets blocks of weights; the bytes loaded then. Raises OptionError, ArtifactError."""
        if self._partial is None:
            raise OptionError("the session has no budget to change", advice="open it with budget_mb")
        assert self._weights is not None
        before, after = self._partial.bytes, self._partial.resize(budget_mb)
        start = -(-after // mmap.PAGESIZE) * mmap.PAGESIZE
        if after < before and start < len(self._weights) and hasattr(mmap, "MADV_DONTNEED"):
            self._weights.madvise(mmap.MADV_DONTNEED, start)  # gives the pages back
        return after

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Fresh outputs for contiguous `inputs` of the model's types. Raises FeedError, JobError."""
        code = self._library.code
        if self._table is None:
            outputs = [np.empty(t.sizes(()), array_type(t.dtype)) for t in self._outputs]
            self._call(code.gossamer_run, inputs, outputs)
            return outputs
        table = self._sized(self._table, inputs)
        outputs = [np.empty(t.sizes(table), array_type(t.dtype)) for t in self._outputs]
        try:
            self._call(code.gossamer_run_sized, inputs, outputs, before=(table.ctypes.data,))
        except JobError:
            if table[0] < 0:  # what a kernel found does not fit
                raise refused_sizes(self._table, int(table[0])) from None
            raise
        return [cut(array, t.sizes(table)) for array, t in zip(outputs, self._outputs, strict=True)]

    def profile(self, inputs: Sequence[Array], kernels: int) -> Array:
        """Times of one run: (threads, kernels, 2) int64, as gossamer_profile gives them.

        Raises FeedError, JobError.
        """
        times = np.zeros((self._threads, kernels, 2), np.int64)
        more, code = (times.ctypes.data, kernels), self._library.code
        table = np.zeros(0, np.int64) if self._table is None else self._sized(self._table, inputs)
        outputs = [np.empty(t.sizes(table), array_type(t.dtype)) for t in self._outputs]
        if self._table is None:
            self._call(code.gossamer_profile, inputs, outputs, after=more)
        else:
            before = (table.ctypes.data,)
            self._call(code.gossamer_profile_sized, inputs, outputs, before=before, after=more)
        return times

    def _sized(self, spec: TableSpec, inputs: Sequence[Array]) -> Array:
        """The table for inputs of these shapes, filled in by the model's code."""
        table = np.zeros(spec.count, np.int64)
        for slot, value in symbol_values(spec, self._inputs, [array.shape for array in inputs]).items():
            table[slot] = value
        status = self._library.code.gossamer_sizes(self._model, table.ctypes.data)
        if status != 0:
            raise refused_sizes(spec, int(table[0]))
        return table

    def _call(
        self,
        function: Any,
        inputs: Sequence[Array],
        outputs: Sequence[Array],
        before: Sequence[int] = (),
        after: Sequence[int] = (),
    ) -> None:
        sources = self._input_type(*(array.ctypes.data for array in inputs))
        targets = self._output_type(*(array.ctypes.data for array in outputs))
        status = function(self._session, *before, sources, targets, *after)
        if status != 0:
            raise JobError("the model failed", got=self._library.error(status))

    def close(self) -> None:
        """Frees the session, then its weights, then the code. May be called again."""
        if self._closed:
            return
        self._closed = True
        if self._session:
            self._library.code.gossamer_close(self._session)
            self._session = ctypes.c_void_p()
        self._partial = None
        self._weights = None  # unmapped when the last reference goes
        self._library.close()


def _map(path: Path, size: int) -> tuple[int | None, mmap.mmap | None]:
    """The address of the mapped file, and the mapping, which must outlive its use; None when it is empty."""
    if size == 0:
        return None, None
    with path.open("rb") as stream:
        mapping = mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ)
    return np.frombuffer(mapping, np.uint8).ctypes.data, mapping
