"""`gossamer inspect`: what a model or an artifact consists of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from ..console import Column, format_bytes, format_count, print_json, print_table
from ..options import parse_shapes

__all__ = ["command"]


def _dims(shape: Any) -> str:
    return "?" if shape is None else "x".join(map(str, shape)) or "scalar"


_COLUMNS = [
    Column("name", "layer"),
    Column("operator", "operator"),
    Column("kernel", "kernel"),
    Column("shape", "output", _dims),
    Column("format", "format"),
    Column("bits", "bits", lambda v: "" if v is None else f"{v:.3g}", right=True),
    Column("sparsity", "zeros", lambda v: "" if v is None else f"{v:.0%}", right=True),
    Column("bytes", "bytes", format_bytes, right=True),
    Column("macs", "MACs", format_count, right=True),
    Column("tile", "tile"),
    Column("reason", "why"),
]


def command(
    model: Path = typer.Argument(metavar="MODEL|ARTIFACT", help="An .onnx file or an artifact folder."),
    input_shape: list[str] = typer.Option([], "--input-shape", metavar="NAME:1,3,224,224"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Print every layer: operator, shape, format, bits, sparsity, bytes, MACs; and totals."""
    from ..engines import is_artifact

    shapes = parse_shapes(input_shape)
    if is_artifact(model):
        from ..inspecting import inspect_artifact

        found = inspect_artifact(model)
    else:
        from gossamer.passes.loading import load_model

        from ..inspecting import inspect_model

        found = inspect_model(load_model(model), shapes)
    if as_json:
        print_json({"model": str(model), **found})
        return
    print_table(_COLUMNS, found["layers"])
    print(_totals(found["totals"]))
    _print_ledger(found.get("ledger", {}))


_LEDGER_COLUMNS = [Column("name", "left"), Column("operator", "operator"), Column("reason", "why")]


def _print_ledger(ledger: dict[str, Any]) -> None:
    """Of a quantised model: what is left of its Q and DQ nodes."""
    left = ledger.get("left", ())
    if left:
        print_table(_LEDGER_COLUMNS, list(left))
    if left or ledger.get("integer_nodes"):
        count = ledger["integer_nodes"]
        print(f"{count} QuantizeLinear and DequantizeLinear nodes run in integers, {len(left)} are left")


def _arena(totals: dict[str, Any]) -> str:
    bound, size = totals["arena_bound_bytes"], totals["arena_bytes"]
    text = f"{format_bytes(size)}; the most alive at one step is {format_bytes(bound)}"
    if bound:
        text += f", {size / bound:.3f} of it"
    return text + f"; and {format_bytes(totals['scratch_bytes'])} for each thread after the first"


def _totals(totals: dict[str, Any]) -> str:
    text = (
        f"{totals['layers']} layers, weights {format_bytes(totals['weight_bytes'])}, "
        f"{format_count(totals['macs'])} MACs"
    )
    if unknown := totals.get("layers_of_unknown_macs"):
        text += f" (and {unknown} layers of unknown shape; give --input-shape)"
    if "arena_bytes" in totals:
        text += f", for {totals['target']}\n  arena: {_arena(totals)}"
        for name, size in totals["files"].items():
            text += f"\n  {name}: {format_bytes(size)}"
    return text
