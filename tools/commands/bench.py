"""`gossamer bench`: latencies side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import typer

from gossamer.runtime.errors import OptionError

from ..console import Column, Progress, print_json, print_table, show_progress
from ..counting_tables import CLASS_COLUMNS, print_kernels
from ..options import parse_shapes

if TYPE_CHECKING:
    from ..choosing import Choice

__all__ = ["command"]

_COLUMNS = [
    Column("name", "what"),
    Column("engine", "engine"),
    Column("threads", "threads", right=True),
    Column("median_ms", "median ms", lambda v: f"{v:.3f}", right=True),
    Column("p10_ms", "p10", lambda v: f"{v:.3f}", right=True),
    Column("p90_ms", "p90", lambda v: f"{v:.3f}", right=True),
    Column("runs", "runs", right=True),
    Column("ratio", "ratio", lambda v: f"{v:.2f}", right=True),
]

_COUNT_COLUMNS = [
    Column("name", "what"),
    Column("engine", "engine"),
    *CLASS_COLUMNS,
    Column("ratio", "ratio", lambda v: f"{v:.3f}", right=True),
]


def command(
    models: list[str] = typer.Argument(
        metavar="[ENGINE[@VARIANT]:]PATH...", help="Artifact folders and models, and what shall run them."
    ),
    against: str | None = typer.Option(
        None, "--against", metavar="ENGINE", help="The baseline: what this engine runs."
    ),
    model: Path | None = typer.Option(
        None, "--model", metavar="M.onnx", help="What --against runs, when no .onnx is among the arguments."
    ),
    threads: int = typer.Option(1, "--threads", min=1, help="Of every engine."),
    input_shape: list[str] = typer.Option([], "--input-shape", metavar="NAME:1,3,224,224"),
    rounds: int = typer.Option(10, "--rounds", min=1, help="Turns that each engine gets."),
    seed: int = typer.Option(0, "--seed", help="Of the random inputs."),
    profiled: bool = typer.Option(False, "--profile", help="Time every kernel of one artifact instead."),
    count_instructions: bool = typer.Option(
        False, "--count-instructions", help="Of AArch64, under qemu, in place of times."
    ),
    budget_mb: float | None = typer.Option(
        None, "--budget-mb", help="Of artifacts' weights, load the first blocks that fit (stack-bits)."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Time engines in interleaved turns: median, spread, and ratio to the baseline (below 1 is faster).

    Each engine has a process of its own, stopped while the others run. The baseline is the first argument,
    or what --against says. A folder is run by our runtime, an .onnx by onnxruntime, a .tflite by LiteRT;
    others by name: openvino:m.onnx, onnxruntime-web:m.onnx, gossamer@node:out/wasm (`gossamer list engines`).

    --profile takes one artifact and lists its kernels: time, work done, share of the peak, which is measured
    on the spot. WebAssembly runs in wasmtime, or in Node: gossamer@node:out/wasm.

    --count-instructions takes arm64-linux artifacts, and .onnx files for onnxruntime's AArch64 package, and
    counts, in millions, what one inference executes on one thread; with --profile, for each kernel of an
    artifact. Counts are exact, but they are not time.
    """
    from ..choosing import parse_choice

    choices = [parse_choice(text) for text in models]
    if profiled and count_instructions:
        _count_kernels(choices, seed, as_json)
        return
    if profiled:
        _profile(choices, threads, seed, as_json)
        return
    choices = [c.within(budget_mb) if c.engine == "gossamer" else c for c in choices]
    choices, baseline = _with_baseline(choices, against, model)
    shapes = parse_shapes(input_shape) or _shapes_of_artifact(choices)
    columns, key = (_COUNT_COLUMNS, "counts") if count_instructions else (_COLUMNS, "timings")
    with show_progress() as progress:
        common: _Common = {"baseline": baseline, "shapes": shapes, "seed": seed, "progress": progress}
        if count_instructions:
            rows = _counts(choices, threads, common)
        else:
            rows = _timings(choices, threads, rounds, common)
    if as_json:
        print_json({"baseline": rows[baseline]["name"], key: rows})
    else:
        print_table(columns, rows)


class _Common(TypedDict):
    baseline: int
    shapes: Mapping[str, Sequence[int]]
    seed: int
    progress: Progress


def _timings(models: list[Choice], threads: int, rounds: int, common: _Common) -> list[dict[str, Any]]:
    from ..benching import bench

    return [timing.to_dict() for timing in bench(models, threads=threads, rounds=rounds, **common)]


def _counts(models: list[Choice], threads: int, common: _Common) -> list[dict[str, Any]]:
    from ..counting import count_instructions

    if threads != 1:
        raise OptionError(
            "instructions are counted on one thread", where="--threads", expected=1, got=threads
        )
    return [count.to_dict() for count in count_instructions(models, **common)]


def _count_kernels(choices: list[Choice], seed: int, as_json: bool) -> None:
    from ..counting_kernels import count_kernels

    if len(choices) != 1 or choices[0].engine != "gossamer":
        names = ", ".join(map(str, choices))
        raise OptionError("one artifact is wanted", where="--profile", got=names)
    kernels = count_kernels(choices[0].path, seed)
    if as_json:
        print_json({"name": str(choices[0].path), "kernels": [kernel.to_dict() for kernel in kernels]})
    else:
        print_kernels(kernels)


def _profile(choices: list[Choice], threads: int, seed: int, as_json: bool) -> None:
    from ..kernel_times import Place
    from ..profile_tables import print_profile
    from ..profiling import profile

    names = ", ".join(map(str, choices))
    if len(choices) != 1 or choices[0].engine != "gossamer":
        raise OptionError("one artifact is wanted", where="--profile", got=names)
    if choices[0].variant == "chromium":
        raise OptionError("kernels are timed in process or in Node", where="--profile", got=names)
    found = profile(choices[0].path, Place(choices[0].variant, threads), seed=seed)
    if as_json:
        print_json(found.to_dict())
    else:
        print_profile(found)


def _with_baseline(
    choices: list[Choice], against: str | None, model: Path | None
) -> tuple[list[Choice], int]:
    """What to time and the index of the baseline. Raises OptionError."""
    from ..choosing import parse_choice

    if against is None:
        if model is not None:
            raise OptionError("--model is only for --against", where="--model", got=model)
        return choices, 0
    wanted = parse_choice(f"{against}:{model or 'model'}")
    if model is not None:
        return [*choices, wanted], len(choices)
    for index, choice in enumerate(choices):
        if choice.label == wanted.label:
            return choices, index
    raise OptionError(f"{against} needs a model", where="--against", advice="add one, or --model M.onnx")


def _shapes_of_artifact(choices: list[Choice]) -> dict[str, tuple[int, ...]]:
    """What the first artifact was compiled for: symbolic dimensions of the .onnx beside it."""
    from ..engines import artifact_shapes, is_artifact

    folder = next((choice.path for choice in choices if is_artifact(choice.path)), None)
    return artifact_shapes(folder) if folder is not None else {}
