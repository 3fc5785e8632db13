"""Writes the artifact folder: code, weights, manifest."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gossamer.runtime.errors import JobError, OptionError
from gossamer.runtime.manifest import (
    MANIFEST,
    MOST_THREADS,
    CodeSpec,
    FileSpec,
    Manifest,
    TargetSpec,
    TensorSpec,
    WeightSpec,
    WeightsSpec,
)
from gossamer.runtime.specs import BlockSpec, SymbolSpec, TableSpec

from ..program import Program, TensorInfo
from ..targets import Target
from .native import Linking, build_native
from .publishing import published_folder
from .sources import model_header
from .wasm import build_wasm

__all__ = ["build_artifact", "fill_artifact"]

WEIGHTS, HEADER = "weights.bin", "model.h"


def build_artifact(
    program: Program,
    objects: Mapping[str, bytes],
    target: Target,
    out: Path,
    *,
    embed_weights: bool = False,
    threads: int = 1,
) -> Path:
    """Links the object files of `program`, one for each of the target's variants, into the folder `out`.

    The folder appears whole or not at all; an earlier artifact there is replaced. `threads` is what a
    session uses when it is not told. Returns `out`. Raises OptionError for a place that cannot be written,
    JobError where linking or writing fails.
    """
    with published_folder(out) as folder:
        fill_artifact(program, objects, target, folder, embed_weights=embed_weights, threads=threads)
    return out


def fill_artifact(
    program: Program,
    objects: Mapping[str, bytes],
    target: Target,
    folder: Path,
    *,
    embed_weights: bool = False,
    threads: int = 1,
    trial: bool = False,
) -> None:
    """The same in an empty folder, which the caller publishes. Raises OptionError, JobError, OSError.

    A `trial` is linked faster, and holds what a session of this process needs.
    """
    if set(objects) != set(target.variants):
        raise JobError(
            "wrong code variants", where=target.name, expected=set(target.variants), got=set(objects)
        )
    if not 1 <= threads <= MOST_THREADS:
        raise OptionError("wrong number of threads", expected=f"1..{MOST_THREADS}", got=threads)
    with tempfile.TemporaryDirectory(prefix="gossamer-") as scratch:
        work = Path(scratch)
        sha256 = hashlib.sha256(program.weights).hexdigest()
        ((work if embed_weights else folder) / WEIGHTS).write_bytes(program.weights)
        if target.family == "wasm":
            code = build_wasm(program, objects, target, work, folder, embed=embed_weights)
        else:
            (native,) = objects.values()
            how = Linking(sha256, threads, embed=embed_weights, trial=trial)
            code = build_native(program, native, target, work, folder, how)
            if not trial:
                code.append(_header(program, target, folder, embed=embed_weights))
        manifest = Manifest(
            name=program.name,
            gossamer=version("gossamer"),
            target=TargetSpec(target.name, target.triple, target.family, target.container, target.requires),
            entry=program.symbol,
            threads=threads,
            inputs=_tensors(program.inputs),
            outputs=_tensors(program.outputs),
            arena_bytes=program.arena_bytes,
            arena_bound_bytes=program.arena_bound_bytes,
            scratch_bytes=program.scratch_bytes,
            weights=WeightsSpec(
                file=None if embed_weights else WEIGHTS,
                bytes=len(program.weights),
                sha256=sha256,
                tensors=tuple(WeightSpec(**asdict(tensor)) for tensor in program.weight_table),
                **_stacked(program),
            ),
            code=tuple(code),
            layers=tuple(asdict(layer) for layer in program.layers),
            steps=program.steps,
            ledger=program.ledger,
            table=_table(program),
            files={path.name: _file(path) for path in sorted(folder.iterdir())},
        )
        (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")


def _stacked(program: Program) -> dict[str, Any]:
    """What the manifest says of weights that may be loaded in part; nothing where there are none."""
    if not program.blocks:
        return {}
    head = program.blocks[0].offset
    return {
        "head_bytes": head,
        "head_sha256": hashlib.sha256(memoryview(program.weights)[:head]).hexdigest(),
        "blocks": tuple(BlockSpec(**asdict(block)) for block in program.blocks),
    }


def _header(program: Program, target: Target, folder: Path, *, embed: bool) -> CodeSpec:
    text = model_header(program, target, version("gossamer"), embedded=embed)
    (folder / HEADER).write_text(text, encoding="utf-8")
    return CodeSpec("header", HEADER)


def _tensors(tensors: tuple[TensorInfo, ...]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(tensor.name, tensor.dtype, tensor.shape, tensor.slots) for tensor in tensors)


def _table(program: Program) -> TableSpec | None:
    table = program.table
    if table is None:
        return None
    symbols = tuple(SymbolSpec(**asdict(symbol)) for symbol in table.symbols)
    return TableSpec(table.symbol, table.count, symbols, table.guards)


def _file(path: Path) -> FileSpec:
    with path.open("rb") as stream:
        return FileSpec(path.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest())
