"""Runs WebAssembly artifacts in process, through wasmtime."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from time import perf_counter_ns
from typing import Any

import numpy as np

from .artifact import Artifact
from .element_types import array_type
from .errors import ArtifactError, FeedError, JobError, OptionError
from .manifest import CodeSpec, Manifest
from .partial import PartialWeights
from .specs import TableSpec, TensorSpec
from .tables import cut, refused_sizes, symbol_values

__all__ = ["ENGINES", "WasmEngine"]

Array = np.ndarray[Any, np.dtype[Any]]
ENGINES = ("relaxed", "simd")  # the variants of the code, best first
PAGE = 65536
ALIGNMENT = 64
MOST_PAGES = 65535  # of a memory that may grow; the module's import allows no more
MOST_MEMORY = MOST_PAGES * PAGE


class WasmEngine:
    """An instance of the module with weights, arena, inputs and outputs laid out after its heap base.

    `variant` forces the "simd" or the "relaxed" build; None takes relaxed where it is in the artifact.
    """

    def __init__(
        self, artifact: Artifact, variant: str | None = None, budget_mb: float | None = None
    ) -> None:
        wasmtime = _wasmtime()
        manifest = artifact.manifest
        code = _choose(artifact, variant)
        config = wasmtime.Config()
        config.wasm_relaxed_simd = code.relaxed
        engine = wasmtime.Engine(config)
        self._store: Any = wasmtime.Store(engine)
        self._trap = wasmtime.Trap
        self._budget = budget_mb
        self._partial: PartialWeights | None = None
        self._times: list[tuple[int, int]] = []  # of kernels, in a profiled run
        try:
            module = wasmtime.Module(engine, artifact.file(code.file).read_bytes())
            self._start(wasmtime, module, artifact, code)
        except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
            got = str(error).splitlines()[0]
            raise ArtifactError("cannot be loaded", where=artifact.path / code.file, got=got) from error
        self._inputs, self._outputs, self._table = manifest.inputs, manifest.outputs, manifest.table

    def _start(self, wasmtime: Any, module: Any, artifact: Artifact, code: CodeSpec) -> None:
        manifest = artifact.manifest
        self._plan = _Layout(manifest, code)
        memory = self._reserve(wasmtime, module, code)
        takes_pointer = wasmtime.FuncType([wasmtime.ValType.i32()], [])
        given = {"memory": memory, "sync": wasmtime.Func(self._store, takes_pointer, self._note_time)}
        imports = [given[item.name] for item in module.imports]
        exports = wasmtime.Instance(self._store, module, imports).exports(self._store)
        if manifest.entry not in exports:
            raise ArtifactError("the code has no such entry", where=code.file, expected=manifest.entry)
        self._entry = exports[manifest.entry]
        self._memory = memory
        if manifest.table is not None:
            if manifest.table.function not in exports:
                raise ArtifactError(
                    "the code has no such function", where=code.file, expected=manifest.table.function
                )
            self._sizes = exports[manifest.table.function]
        weights = self._plan.weights
        if self._budget is not None:
            self._partial = self._load_partly(artifact, self._budget)
        elif manifest.weights.file is None:
            weights = exports["gossamer_weights"].value(self._store)
        else:
            self._write(weights, artifact.file(manifest.weights.file).read_bytes())
        self._tail = [weights, self._plan.arena, 0, 1]

    def _load_partly(self, artifact: Artifact, budget_mb: float) -> PartialWeights:
        size = artifact.manifest.weights.bytes
        memory = (ctypes.c_ubyte * size).from_address(self._address() + self._plan.weights)
        partial = PartialWeights(artifact, memoryview(memory).cast("B"))
        partial.resize(budget_mb)
        return partial

    def set_budget(self, budget_mb: float) -> int:
        """Loads or forgets blocks of weights; the bytes loaded then. WebAssembly gives no memory back."""
        if self._partial is None:
            raise OptionError("the session has no budget to change", advice="open it with budget_mb")
        return self._partial.resize(budget_mb)

    def _reserve(self, wasmtime: Any, module: Any, code: CodeSpec) -> Any:
        imports = {(item.module, item.name): item for item in module.imports}
        if ("env", "memory") not in imports or set(imports) - {("env", "memory"), ("env", "sync")}:
            raise ArtifactError("imports more than memory", where=code.file, got=sorted(imports))
        least = imports["env", "memory"].type.limits.min
        pages = max(self._plan.pages, least)
        most = pages if self._plan.is_fixed else MOST_PAGES
        limits = wasmtime.Limits(pages, most)
        return wasmtime.Memory(self._store, wasmtime.MemoryType(limits))

    def _note_time(self, sync: int) -> None:
        before = perf_counter_ns()
        self._times.append((before, perf_counter_ns()))

    def _write(self, offset: int, data: bytes | Array) -> None:
        source = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
        ctypes.memmove(self._address() + offset, source.ctypes.data, source.nbytes)

    def _address(self) -> int:
        pointer = self._memory.data_ptr(self._store)
        return ctypes.addressof(pointer.contents)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Fresh outputs for contiguous `inputs` of the model's types. Raises FeedError, JobError."""
        table = self._prepare(inputs)
        self._compute(0)
        outputs = [np.empty(t.sizes(table), array_type(t.dtype)) for t in self._outputs]
        for offset, array in zip(self._plan.outputs, outputs, strict=True):
            ctypes.memmove(array.ctypes.data, self._address() + offset, array.nbytes)
        after = self._read_table() if self._table is not None else table
        return [cut(array, t.sizes(after)) for array, t in zip(outputs, self._outputs, strict=True)]

    def profile(self, inputs: Sequence[Array], kernels: int) -> Array:
        """Times of one run: (1, kernels, 2) int64, the second number of each when the next kernel starts."""
        self._times.clear()
        self._prepare(inputs)
        start = perf_counter_ns()
        self._compute(1)
        times = np.zeros((1, kernels, 2), np.int64)
        found = np.array(self._times[:kernels], np.int64).reshape(-1, 2) - start
        times[0, : len(found)] = found
        return times

    def _prepare(self, inputs: Sequence[Array]) -> Array:
        """Puts inputs in their places, behind an arena that is large enough; the table of sizes."""
        table = np.zeros(0, np.int64)
        if self._table is not None:
            table = self._fill_table(self._table, inputs)
            self._plan.place(int(table[0]), table)
            needed = self._plan.pages - self._memory.size(self._store)
            if needed > 0:
                self._memory.grow(self._store, needed)
        for offset, array in zip(self._plan.inputs, inputs, strict=True):
            self._write(offset, array)
        return table

    def _fill_table(self, spec: TableSpec, inputs: Sequence[Array]) -> Array:
        table = np.zeros(spec.count, np.int64)
        for slot, value in symbol_values(spec, self._inputs, [array.shape for array in inputs]).items():
            table[slot] = value
        self._write(self._plan.arena, table)
        self._call(self._sizes, self._plan.arena)
        table = self._read_table()
        if table[0] < 0:
            raise refused_sizes(spec, int(table[0]))
        return table

    def _read_table(self) -> Array:
        assert self._table is not None
        table = np.zeros(self._table.count, np.int64)
        ctypes.memmove(table.ctypes.data, self._address() + self._plan.arena, table.nbytes)
        return table

    def _compute(self, sync: int) -> None:
        self._call(self._entry, *self._plan.inputs, *self._plan.outputs, *self._tail, sync)

    def _call(self, function: Any, *arguments: int) -> None:
        try:
            status = function(self._store, *arguments)
        except self._trap as error:
            raise JobError("the model failed", got=str(error).splitlines()[-1]) from error
        if status != 0:
            raise JobError("the model failed", got=f"status {status}")

    def close(self) -> None:
        """Frees the instance. May be called again."""
        self._store = self._memory = self._entry = None


class _Layout:
    """Byte offsets in the linear memory: weights (unless embedded), arena, inputs, outputs."""

    def __init__(self, manifest: Manifest, code: CodeSpec) -> None:
        self._manifest, self._next = manifest, code.heap_base
        external = manifest.weights.file is not None
        self.weights = self._take(manifest.weights.bytes if external else 0)
        self.arena = self._take(0)
        self.is_fixed = manifest.table is None
        if manifest.table is None:
            self.place(manifest.arena_bytes, ())
        else:
            self._next = self.arena + 8 * manifest.table.count

    def place(self, arena_bytes: int, table: Sequence[int] | Array) -> None:
        """Inputs and outputs behind an arena of this size, where the table holds their sizes."""
        manifest = self._manifest
        self._next = self.arena + arena_bytes
        self.inputs = [self._take(_bytes(tensor, table)) for tensor in manifest.inputs]
        self.outputs = [self._take(_bytes(tensor, table)) for tensor in manifest.outputs]
        if self._next > MOST_MEMORY:
            where, expected = manifest.name, f"at most {MOST_MEMORY} bytes"
            error = ArtifactError if self.is_fixed else FeedError
            raise error("does not fit WebAssembly's memory", where=where, expected=expected, got=self._next)

    def _take(self, size: int) -> int:
        start = -(-self._next // ALIGNMENT) * ALIGNMENT
        self._next = start + size
        return start

    @property
    def pages(self) -> int:
        """Pages of 64 KiB that hold everything."""
        return -(-self._next // PAGE)


def _bytes(tensor: TensorSpec, table: Sequence[int] | Array) -> int:
    return math.prod(tensor.sizes(table)) * array_type(tensor.dtype).itemsize


def _choose(artifact: Artifact, variant: str | None) -> CodeSpec:
    if variant is not None and variant not in ENGINES:
        raise OptionError("unknown WebAssembly engine", where=variant, expected=" or ".join(ENGINES))
    found = {("relaxed" if code.relaxed else "simd"): code for code in artifact.code("wasm")}
    wanted = ENGINES if variant is None else (variant,)
    for name in wanted:
        if name in found:
            return found[name]
    raise ArtifactError(
        "holds no such WebAssembly code",
        where=artifact.path,
        expected=" or ".join(wanted),
        got=", ".join(found) or "none",
    )


def _wasmtime() -> Any:
    try:
        import wasmtime
    except ImportError as error:
        raise OptionError(
            "running WebAssembly here needs wasmtime", advice="install it: pip install 'gossamer[wasm]'"
        ) from error
    return wasmtime
