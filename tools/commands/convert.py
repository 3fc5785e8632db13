"""`gossamer convert`: ONNX to smaller ONNX, by a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gossamer.runtime.errors import OptionError

from ..console import Column, format_bytes, format_error, note, print_json, print_table, show_progress
from ..options import check_parent, choose_output, parse_shapes, parse_share, parse_size

if TYPE_CHECKING:
    from gossamer.passes.report import Report

__all__ = ["command"]

_PASSES = [
    Column("pass", "pass"),
    Column("stage", "stage"),
    Column("exact", "exact", lambda v: "yes" if v else "no"),
    Column("changed", "changed", right=True),
    Column("refused", "refused", lambda v: str(v) if v else "", right=True),
    Column("bytes_before", "weights before", format_bytes, right=True),
    Column("bytes_after", "after", format_bytes, right=True),
]
_CHECKS = [
    Column("output", "output"),
    Column("stage", "compared"),
    Column("max_abs", "largest error", format_error, right=True),
    Column("spread", "spread", lambda v: f"{v:.4g}", right=True),
    Column("relative", "error / spread", format_error, right=True),
    Column("tolerance", "allowed", lambda v: "any" if v is None else f"{v:g}", right=True),
]


def command(
    model: Path = typer.Argument(metavar="IN.onnx"),
    out: Path | None = typer.Argument(None, metavar="[OUT.onnx]", help="Same as -o."),
    output: Path | None = typer.Option(None, "-o", "--output", help="The ONNX file to write."),
    recipe: str = typer.Option("default", "--recipe", metavar="NAME|FILE.yaml", help="What to apply."),
    settings: list[str] = typer.Option([], "--set", metavar="PASS.OPTION=VALUE", help="Change the recipe."),
    input_shape: list[str] = typer.Option([], "--input-shape", metavar="NAME:1,3,224,224"),
    calibrate: Path | None = typer.Option(None, "--calibrate", metavar="FILE.npz|DIR", help="Sample inputs."),
    report: Path | None = typer.Option(None, "--report", metavar="FILE.json|.html", help="What was done."),
    max_error: float | None = typer.Option(
        None, "--max-error", min=0, help="Fail a lossy recipe beyond this error / spread of any output."
    ),
    target_size: str | None = typer.Option(
        None,
        "--target-size",
        metavar="0.25x|3MB",
        help="Choose how each layer is compressed so that all weights take so much; needs --calibrate.",
    ),
    max_drop: str | None = typer.Option(
        None,
        "--max-drop",
        metavar="1%",
        help="As small as it gets while no more of the predictions on --calibrate change.",
    ),
    no_verify: bool = typer.Option(False, "--no-verify", help="Do not compare the result with the source."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Apply a recipe to a model and compare the result with the source.

    The converted file runs in any ONNX runtime. An exact recipe must not change the outputs.
    """
    path = choose_output(output, out)
    _check_report(report)
    from ..converting import Conversion, read_calibration

    budget = (
        None if target_size is None else parse_size("--target-size", target_size),
        None if max_drop is None else parse_share("--max-drop", max_drop),
    )
    job = Conversion(model, recipe, settings, parse_shapes(input_shape), read_calibration(calibrate), budget)
    with show_progress() as progress:
        result = job.run(not no_verify, progress)
    try:
        if not no_verify:
            job.verify(result, max_error)
    finally:
        _save_report(report, result.report)
    result.save(path)
    _print(result.report, path, verified=not no_verify, as_json=as_json)


def _check_report(path: Path | None) -> None:
    if path is None:
        return
    if path.suffix not in (".json", ".html"):
        raise OptionError("unknown kind of report", where=f"--report {path}", expected=".json or .html")
    check_parent(path)


def _save_report(path: Path | None, report: Report) -> None:
    if path is not None:
        from gossamer.passes.saving import written_whole

        text = report.to_html() if path.suffix == ".html" else report.to_json() + "\n"
        with written_whole(path) as aside:
            aside.write_text(text, encoding="utf-8")


def _print(report: Report, path: Path, *, verified: bool, as_json: bool) -> None:
    size = path.stat().st_size
    if as_json:
        data: dict[str, Any] = json.loads(report.to_json())
        print_json({"output": str(path), "file_bytes": size, "verified": verified, **data})
        return
    rows = [
        {
            "pass": entry.name,
            "stage": entry.stage,
            "exact": entry.exact,
            "changed": len(entry.changed),
            "refused": len(entry.refused),
            "bytes_before": entry.bytes_before,
            "bytes_after": entry.bytes_after,
        }
        for entry in report.passes
    ]
    print_table(_PASSES, rows)
    if verified:
        print_table(_CHECKS, [vars(check) for check in report.checks])
    else:
        note("not verified: --no-verify was given")
    print(f"{path}: {format_bytes(size)}, weights {format_bytes(report.bytes_before)} -> ", end="")
    print(format_bytes(report.bytes_after))
