"""What commands print: tables or JSON on stdout, notes and progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from typing import Any

__all__ = [
    "Column",
    "Progress",
    "format_bytes",
    "format_count",
    "format_error",
    "format_value",
    "note",
    "print_json",
    "print_table",
    "show_progress",
]

Progress = Callable[[str, int, int], None]
_PIPED_WIDTH = 200  # columns when stdout is no terminal: wide enough that nothing is cut


def _plain(value: object) -> str:
    return "" if value is None else str(value)


@dataclass(frozen=True)
class Column:
    """One column: the row's `key`, the `title` above it, and how a value becomes text."""

    key: str
    title: str
    show: Callable[[Any], str] = _plain
    right: bool = False


def print_json(data: object) -> None:
    """Print `data` as JSON, and nothing else, on stdout; NaN and infinity as texts "nan", "inf"."""
    print(json.dumps(_finite(data), indent=2, ensure_ascii=False, allow_nan=False))


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    if isinstance(data, float) and not isfinite(data):
        return str(data)
    return data if isinstance(data, str | int | float | bool | None) else str(data)


def print_table(columns: Sequence[Column], rows: Sequence[dict[str, Any]], title: str | None = None) -> None:
    """Print rows as a table on stdout; columns that are empty in every row are left out."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    shown = [c for c in columns if any(c.show(row.get(c.key)) for row in rows)]
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in shown:
        justify: Any = "right" if column.right else "left"
        table.add_column(column.title, justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*(_escape(column.show(row.get(column.key))) for column in shown))
    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    Console(file=sys.stdout, width=width, highlight=False).print(table)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def note(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr)


def format_bytes(count: int | None) -> str:
    """Bytes for people.

    >>> format_bytes(900), format_bytes(4_200_000)
    ('900 B', '4.01 MiB')
    """
    if count is None:
        return ""
    if count < 1024:
        return f"{count} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        value /= 1024
        if value < 1024 or unit == "TiB":
            break
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"


def format_count(count: float | None) -> str:
    """A count with a decimal unit.

    >>> format_count(568_740_352), format_count(12)
    ('569 M', '12')
    """
    if count is None:
        return ""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= limit:
            return f"{count / limit:.3g} {unit}"
    return f"{count:g}"


def format_error(value: float | None) -> str:
    """An error with two digits, as 1.2e-06; 0 where nothing differs."""
    if value is None:
        return ""
    return "0" if value == 0 else f"{value:.1e}"


def format_value(value: object) -> str:
    """A number with five digits, anything else as it is."""
    if isinstance(value, float):
        return f"{value:.5g}"
    return _plain(value)


@contextmanager
def show_progress() -> Iterator[Progress]:
    """A progress line on stderr while it is a terminal, else nothing; gives a `Progress` to call."""
    if not sys.stderr.isatty():
        yield lambda label, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(file=sys.stderr),
        transient=True,
    )
    with bar:
        task = bar.add_task("starting", total=None)

        def advance(label: str, done: int, total: int) -> None:
            bar.update(task, description=_escape(label), completed=done, total=total or None)

        yield advance
