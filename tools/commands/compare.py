"""`gossamer compare`: the same inputs through two models, and how far the outputs lie apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from ..console import Column, format_error, note, print_json, print_table
from ..options import parse_shapes

__all__ = ["command"]

_COLUMNS = [
    Column("name", "output"),
    Column("shape", "shape"),
    Column("max_abs", "largest error", format_error, right=True),
    Column("spread", "spread of A", lambda v: f"{v:.4g}", right=True),
    Column("relative", "error / spread", format_error, right=True),
]


def command(
    a: Path = typer.Argument(metavar="A", help="An .onnx (run by onnxruntime) or an artifact folder."),
    b: Path = typer.Argument(metavar="B", help="The same, compared with A."),
    inputs: Path | None = typer.Option(
        None, "--inputs", metavar="FILE.npz", help="Arrays by input name; random ones when not given."
    ),
    seed: int = typer.Option(0, "--seed", help="Of the random inputs."),
    input_shape: list[str] = typer.Option([], "--input-shape", metavar="NAME:1,3,224,224"),
    max_error: float | None = typer.Option(
        None, "--max-error", min=0, help="Fail (exit 1) where error / spread of an output is larger."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Run A and B on the same inputs and print the error of every output."""
    from gossamer.runtime.errors import JobError

    from ..checking import compare_engines
    from ..engines import make_feeds, open_engine

    shapes = parse_shapes(input_shape)
    first = open_engine(a, shapes=shapes)
    second = open_engine(b, shapes=shapes)
    # an artifact's shapes are fixed: they say what symbolic dimensions of the other side are
    fixed = second if b.is_dir() and not a.is_dir() else first
    rows: list[dict[str, Any]] = list(compare_engines(first, second, make_feeds(fixed.inputs, inputs, seed)))
    if as_json:
        print_json({"a": first.name, "b": second.name, "seed": None if inputs else seed, "outputs": rows})
    else:
        if inputs is None:
            note(f"no --inputs: random inputs from seed {seed}")
        print_table(_COLUMNS, rows)
    worst = max((row["relative"] for row in rows), default=0.0)
    if max_error is not None and not worst <= max_error:
        raise JobError("the models differ", where=b, expected=f"at most {max_error:g}", got=f"{worst:.2g}")
