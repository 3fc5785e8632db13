"""`gossamer export`: a zoo architecture, from PyTorch to ONNX."""

from __future__ import annotations

from pathlib import Path

import typer

from ..console import format_bytes, note, show_progress
from ..options import choose_output

__all__ = ["command"]


def command(
    name: str = typer.Argument(metavar="ZOO_NAME", help="As `gossamer list models` prints it."),
    out: Path | None = typer.Argument(None, metavar="[OUT.onnx]", help="Same as -o."),
    output: Path | None = typer.Option(None, "-o", "--output", help="The ONNX file to write."),
) -> None:
    """Export a zoo architecture from PyTorch to ONNX.

    Weights are seeded and batch norms calibrated, so the file is the same every time.
    """
    from gossamer.models.export import export_model

    path = choose_output(output, out)
    with show_progress() as progress:
        progress(f"exporting {name}", 0, 0)
        export_model(name, path)
    note(f"{path}: {name}, {format_bytes(path.stat().st_size)}")
