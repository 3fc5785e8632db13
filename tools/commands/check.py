"""`gossamer check`: what stands in the way of compiling a model."""

from __future__ import annotations

from pathlib import Path

import typer

from ..console import Column, print_json, print_table
from ..options import parse_open_shapes, split_targets

__all__ = ["command"]

_COLUMNS = [
    Column("target", "target"),
    Column("operator", "operator"),
    Column("name", "node"),
    Column("what", "in the way"),
    Column("expected", "expected"),
    Column("got", "got"),
    Column("advice", "what to do"),
]


def command(
    model: Path = typer.Argument(metavar="IN.onnx"),
    target: str = typer.Option("host", "--target", metavar="NAME[,NAME]"),
    input_shape: list[str] = typer.Option([], "--input-shape", metavar="NAME:1,3,224,224"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """List in one go every operator, type or shape that the compiler cannot take; build nothing.

    Exit code 0 if the model compiles for every target, 1 if not.
    """
    names = split_targets(target)
    shapes = parse_open_shapes(input_shape)
    from ..examining import examine, to_dict

    found = examine(model, names, shapes)
    compiles = not any(found.values())
    if as_json:
        targets = [
            {"target": name, "compiles": not rows, "obstacles": [to_dict(row) for row in rows]}
            for name, rows in found.items()
        ]
        print_json({"model": str(model), "compiles": compiles, "targets": targets})
    elif compiles:
        typer.echo(f"{model} compiles for " + ", ".join(found))
    else:
        print_table(_COLUMNS, [{"target": t, **vars(row)} for t, rows in found.items() for row in rows])
    if not compiles:
        raise typer.Exit(1)
