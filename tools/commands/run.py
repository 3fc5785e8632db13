"""`gossamer run`: run an artifact once and describe what came out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from ..console import Column, format_value, note, print_json, print_table
from ..options import check_parent, parse_shapes

__all__ = ["command"]

_COLUMNS = [
    Column("name", "output"),
    Column("shape", "shape"),
    Column("dtype", "dtype"),
    Column("min", "min", format_value, right=True),
    Column("max", "max", format_value, right=True),
    Column("mean", "mean", format_value, right=True),
    Column("first", "first values", lambda values: " ".join(map(format_value, values))),
]


def command(
    model: Path = typer.Argument(metavar="ARTIFACT", help="An artifact folder, or an .onnx for onnxruntime."),
    inputs: Path | None = typer.Option(
        None, "--inputs", metavar="FILE.npz", help="Arrays by input name; random ones when not given."
    ),
    output: Path | None = typer.Option(None, "-o", "--output", metavar="OUT.npz", help="Keep the outputs."),
    seed: int = typer.Option(0, "--seed", help="Of the random inputs."),
    threads: int | None = typer.Option(None, "--threads", min=1, help="Threads; default: as compiled."),
    input_shape: list[str] = typer.Option([], "--input-shape", metavar="NAME:1,3,224,224"),
    budget_mb: float | None = typer.Option(
        None, "--budget-mb", help="Of an artifact's weights, load the first blocks that fit (stack-bits)."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Run an artifact once and print what came out."""
    from ..engines import make_feeds, open_engine, parse_choice
    from ..summarising import save_arrays, summarise

    shapes = parse_shapes(input_shape)
    if output is not None:
        check_parent(output)
    engine = open_engine(parse_choice(model).within(budget_mb), threads, shapes)
    results = engine.run(make_feeds(engine.inputs, inputs, seed))
    named = dict(zip(engine.output_names, results, strict=True))
    if output is not None:
        save_arrays(output, named)
    rows: list[dict[str, Any]] = [summarise(name, value) for name, value in named.items()]
    if as_json:
        print_json({"model": engine.name, "seed": None if inputs else seed, "outputs": rows})
        return
    if inputs is None:
        note(f"no --inputs: random inputs from seed {seed}")
    print_table(_COLUMNS, rows)
