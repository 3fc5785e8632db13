"""What lowering gives to building: one TIR entry, its data, and where everything lies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gossamer.runtime.specs import LedgerSpec, StepSpec

__all__ = ["BlockInfo", "LayerInfo", "Program", "SymbolInfo", "TableInfo", "TensorInfo", "WeightInfo"]


@dataclass(frozen=True)
class TensorInfo:
    """An input or output: `shape` counts elements, `dtype` is numpy's name ("float32").

    A size that a run brings is a formula of names in `shape`, and a place of the program's table in `slots`,
    which is -1 for numbers, and empty where all are.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    slots: tuple[int, ...] = ()


@dataclass(frozen=True)
class SymbolInfo:
    """A size that inputs bring: its place in the table, the least and the most (None: any) it may be."""

    name: str
    slot: int
    least: int
    most: int | None


@dataclass(frozen=True)
class TableInfo:
    """`count` int64 numbers at the head of the arena, which the C function `symbol` checks and fills in.

    `guards` say what is wrong where it refuses; see `lowering/table.py`.
    """

    symbol: str
    count: int
    symbols: tuple[SymbolInfo, ...]
    guards: tuple[str, ...]
    function: Any = field(repr=False, compare=False)


@dataclass(frozen=True)
class WeightInfo:
    """Where one packed tensor lies in the weights blob (`offset` is a multiple of 64, in bytes)."""

    name: str
    offset: int
    bytes: int
    dtype: str
    packing: str  # "raw", "gemm-panels", "block-sparse 4x1", ...


@dataclass(frozen=True)
class BlockInfo:
    """A block that a session may leave out, with all behind it: see `runtime/specs.py`."""

    name: str
    offset: int
    bytes: int
    sha256: str
    counter: int
    level: int


@dataclass(frozen=True)
class LayerInfo:
    """One line of the report: what a node became and why."""

    name: str  # of the ONNX node
    operator: str  # "Conv"
    kernel: str  # "gemm", "sparse-gemm", "depthwise", "elementwise", ...
    shape: tuple[int | str, ...]  # of the first output; text where a size is known at run time
    format: str = "dense"  # "dense", "block-sparse 4x1"
    sparsity: float = 0.0
    bits_per_weight: float = 32.0
    weight_bytes: int = 0
    macs: int = 0
    tile: str = ""
    reason: str = ""
    fused: tuple[str, ...] = ()  # nodes computed by the same kernel


@dataclass(frozen=True)
class Program:
    """A lowered model for one target.

    `module(variant)` gives the IRModule of one code variant: kernels and the entry `symbol`, a C function
    `int32_t symbol(in0…, out0…, const void *weights, void *arena, int32_t thread, int32_t threads,
    void *sync)`; it calls `gossamer_sync(sync)` after every kernel unless `sync` is null.
    `steps` describes those kernels in the order of their calls.
    `weights` is the blob. A session's memory is `arena_bytes` for one thread and `scratch_bytes` more,
    behind it, for each further one; both are multiples of 64. `arena_bound_bytes` is the most alive at one
    step.
    """

    name: str
    symbol: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    module: Any
    weights: bytes
    weight_table: tuple[WeightInfo, ...]
    arena_bytes: int
    scratch_bytes: int = 0
    arena_bound_bytes: int = 0
    layers: tuple[LayerInfo, ...] = ()
    steps: tuple[StepSpec, ...] = ()
    ledger: LedgerSpec = field(default_factory=LedgerSpec)
    blocks: tuple[BlockInfo, ...] = ()  # at the end of the weights, in the order in which they are loaded
    table: TableInfo | None = None  # of sizes that a run brings; with it, bytes above may be 0: not known
