"""Runs a batch in wasmtime with every buffer between guard bytes, each in turn at the end of the memory."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from gossamer.runtime.artifact import Artifact
from gossamer.runtime.manifest import CodeSpec

from .bounded import Array
from .graphs import Batch

__all__ = ["run_wasm"]

PAGE, ALIGNMENT, GUARD = 65536, 64, 256
CANARIES = (0xFF, 0x7F)  # bytes of NaN, and of a float near the largest


@dataclass
class _Region:
    name: str
    bytes: int
    start: int = 0

    @property
    def span(self) -> slice:
        return slice(self.start, self.start + self.bytes)


@dataclass
class _Module:
    """One variant of the code; `feeds` are the bytes of what it may not write."""

    artifact: Artifact
    code: CodeSpec
    feeds: dict[str, bytes] = field(default_factory=dict)

    @cached_property
    def _compiled(self) -> Any:
        import wasmtime

        config = wasmtime.Config()
        config.wasm_relaxed_simd = self.code.relaxed
        engine = wasmtime.Engine(config)
        return engine, wasmtime.Module(engine, self.artifact.file(self.code.file).read_bytes())

    def _regions(self, last: str) -> list[_Region]:
        """All buffers, laid out; the end of the last one is the end of the memory."""
        manifest = self.artifact.manifest
        tensors = [*manifest.inputs, *manifest.outputs]
        regions = [_Region(t.name, t.bytes) for t in tensors]
        regions += [_Region("weights", manifest.weights.bytes), _Region("arena", manifest.arena_bytes)]
        at = self.code.heap_base
        for region in sorted(regions, key=lambda r: r.name == last):
            region.start = -(-(at + GUARD) // ALIGNMENT) * ALIGNMENT
            at = region.start + region.bytes
            if region.name == last:
                region.start = -(-at // PAGE) * PAGE - region.bytes
        return regions

    def run(self, last: str, canary: int) -> tuple[dict[str, bytes], list[str]]:
        """All buffers afterwards, and what was wrong: `last` ends the memory, all else is `canary`."""
        import wasmtime

        regions = self._regions(last)
        end = max(r.start + r.bytes for r in regions)
        engine, module = self._compiled
        store = wasmtime.Store(engine)
        pages = -(-end // PAGE)
        memory = wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(pages, pages)))
        sync = wasmtime.Func(store, wasmtime.FuncType([wasmtime.ValType.i32()], []), lambda pointer: None)
        given = {"memory": memory, "sync": sync}
        instance = wasmtime.Instance(store, module, [given[i.name] for i in module.imports])
        address = ctypes.addressof(memory.data_ptr(store).contents)
        view = np.ctypeslib.as_array((ctypes.c_uint8 * memory.data_len(store)).from_address(address))
        view[self.code.heap_base :] = canary
        for region in regions:
            if region.name in self.feeds:
                view[region.span] = np.frombuffer(self.feeds[region.name], np.uint8)
        entry = instance.exports(store)[self.artifact.manifest.entry]
        try:
            status = entry(store, *(r.start for r in regions), 0, 1, 0)
        except wasmtime.Trap as trap:
            return {}, [f"{str(trap).splitlines()[-1].strip()} with {last} at the memory's end"]
        found = [] if status == 0 else [f"status {status}"]
        found += self._written(view, regions, canary)
        return {r.name: view[r.span].tobytes() for r in regions}, found

    def _written(self, view: Array, regions: list[_Region], canary: int) -> Iterator[str]:
        """Buffers that may not be written and were, and the first guard byte that changed."""
        for region in regions:
            if region.name in self.feeds and view[region.span].tobytes() != self.feeds[region.name]:
                yield f"{region.name} was written"
        outside = view != canary
        outside[: self.code.heap_base] = False
        for region in regions:
            outside[region.span] = False
        if outside.any():
            at = int(outside.argmax())
            near = min(regions, key=lambda r: min(abs(at - r.start), abs(at - r.start - r.bytes)))
            yield f"byte {at - near.start} of {near.name} was written, which has {near.bytes}"


def run_wasm(batch: Batch, artifact: Artifact) -> list[str]:
    """A line for each fault of each variant, as `run_native` finds them."""
    return [
        f"{code.file}: {line}" for code in artifact.code("wasm") for line in _faults(batch, artifact, code)
    ]


def _faults(batch: Batch, artifact: Artifact, code: CodeSpec) -> Iterator[str]:
    manifest = artifact.manifest
    module = _Module(artifact, code, {name: array.tobytes() for name, array in batch.feeds.items()})
    module.feeds["weights"] = artifact.file(manifest.weights.file or "weights.bin").read_bytes()
    first: dict[str, bytes] = {}
    for turn, tensor in enumerate([*manifest.inputs, *manifest.outputs]):
        found, faults = module.run(tensor.name, CANARIES[turn % 2])
        yield from (f"{batch.label(tensor.name)}: {line}" for line in faults)
        if not found:
            continue
        first = first or found
        for out in manifest.outputs:
            if found[out.name] != first[out.name]:
                yield f"{batch.label(out.name)}: {out.name} depends on other memory"
    if first:
        arrays = {
            t.name: np.frombuffer(first[t.name], t.dtype).reshape(t.sizes(())) for t in manifest.outputs
        }
        yield from batch.faults(arrays)
