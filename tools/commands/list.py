"""`gossamer list`: the names that other commands take."""

from __future__ import annotations

import typer

__all__ = ["command"]


def command(
    what: str = typer.Argument(metavar="targets|passes|recipes|formats|kernels|models"),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """List what there is, each with one line about it."""
    from ..console import Column, print_json, print_table
    from ..listing import list_things

    rows = list_things(what)
    if as_json:
        print_json(rows)
    else:
        print_table([Column("name", what), Column("summary", "")], rows)
