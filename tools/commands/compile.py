"""`gossamer compile`: ONNX to code for one or several machines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..console import Column, format_bytes, format_error, note, print_json, print_table, show_progress
from ..options import choose_output, parse_open_shapes, split_targets

if TYPE_CHECKING:
    from ..compiling import Artifact

__all__ = ["command"]

_COLUMNS = [
    Column("target", "target"),
    Column("where", "verified"),
    Column("output", "output"),
    Column("max_abs", "largest error", format_error, right=True),
    Column("relative", "error / spread", format_error, right=True),
    Column("code_bytes", "code", format_bytes, right=True),
    Column("weight_bytes", "weights", format_bytes, right=True),
    Column("arena_bytes", "arena", format_bytes, right=True),
]


def command(
    model: Path = typer.Argument(metavar="IN.onnx"),
    out: Path | None = typer.Argument(None, metavar="[DIR]", help="Same as -o."),
    output: Path | None = typer.Option(
        None, "-o", "--output", metavar="DIR", help="The artifact folder; of several targets, their parent."
    ),
    target: str = typer.Option(
        "host", "--target", metavar="NAME[,NAME]", help="As `gossamer list targets` prints them."
    ),
    cpu: str | None = typer.Option(None, "--cpu", metavar="NAME", help="LLVM's name of a processor."),
    threads: int = typer.Option(1, "--threads", min=1, help="That sessions use when they are not told."),
    input_shape: list[str] = typer.Option([], "--input-shape", metavar="NAME:1,3,224,224|NAME:1,seq<=512"),
    embed_weights: bool = typer.Option(False, "--embed-weights", help="Put the weights into the code file."),
    tune: bool = typer.Option(
        False, "--tune", help="Measure which kernels are fastest here; target host only."
    ),
    no_verify: bool = typer.Option(False, "--no-verify", help="Do not run what was built."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Compile a model, and compare what was built with onnxruntime.

    Every target that this machine can run, directly or emulated, is run; the others say why not.
    """
    path = choose_output(output, out)
    names = split_targets(target)
    shapes = parse_open_shapes(input_shape)
    from ..compiling import CompileOptions, compile_targets

    with show_progress() as progress:
        options = CompileOptions(cpu, threads, shapes, embed_weights, not no_verify, tune, progress)
        artifacts = compile_targets(model, names, path, options)
    if as_json:
        print_json({"output": str(path), "artifacts": [artifact.to_dict() for artifact in artifacts]})
        return
    print_table(_COLUMNS, [row for artifact in artifacts for row in _rows(artifact)])
    for artifact in artifacts:
        for check in artifact.checks:
            if check.where is None:
                note(f"{artifact.target.name}: not run: {check.reason}")
    if no_verify:
        note("not verified: --no-verify was given")


def _output(error: dict[str, Any]) -> str | None:
    """The output's name, and the sizes it was computed at."""
    sizes = ", ".join(f"{name}={size}" for name, size in error.get("sizes", {}).items())
    return f"{error['name']} ({sizes})" if sizes else error["name"]


def _rows(artifact: Artifact) -> list[dict[str, Any]]:
    """A row for each output and way to run it; sizes stand in the first."""
    sizes = artifact.sizes()
    rows = [
        {
            "where": check.where or "not run",
            "output": _output(e),
            **{k: e[k] for k in ("max_abs", "relative")},
        }
        for check in artifact.checks
        for e in (check.errors or ({"name": None, "max_abs": None, "relative": None},))
    ] or [{"where": "no"}]
    rows[0] = {"target": artifact.target.name, **rows[0], **sizes}
    return rows
