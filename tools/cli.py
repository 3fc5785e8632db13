"""The `gossamer` command: commands found by file, every failure one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import typer

from .failing import OutputClosedError, guarded, report_failure

__all__ = ["build_app", "command_names", "main"]


def command_names() -> tuple[str, ...]:
    """Every command: a file `commands/NAME.py` with a function `command`, sorted."""
    files = (Path(__file__).parent / "commands").glob("*.py")
    return tuple(sorted(path.stem for path in files if path.stem != "__init__"))


def _show_version(wanted: bool) -> None:
    if wanted:
        from gossamer import __version__

        typer.echo(f"gossamer {__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Print the version and stop."
    ),
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks; may stand anywhere on the line."),
) -> None:
    """Makes ONNX models small and fast, and ships them: to ARM, the browser and x86.

    Exit codes: 0 done, 1 the job failed (disk, verification), 2 wrong usage or input.
    """


def build_app() -> typer.Typer:
    """The command line application; plain help texts, so that nothing heavy is imported."""
    app = typer.Typer(
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name in command_names():
        module = import_module(f".commands.{name}", __package__)
        app.command(name)(module.command)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's) and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    # numpy reads it when imported: passes share layers out over cores, threads of its own only get in the way
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    words = [word for word in words if word != "--debug"]
    try:
        with guarded(debug):
            result = build_app()(words or ["--help"], prog_name="gossamer", standalone_mode=False)
            sys.stdout.flush()
    except OutputClosedError:
        return 1
    except BaseException as error:
        return report_failure(error, debug)
    if result == 130:  # typer has turned Ctrl-C into this
        return report_failure(KeyboardInterrupt(), debug)
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
