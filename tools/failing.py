"""How a command ends: one line on stderr and an exit code for every failure."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from gossamer.runtime.errors import GossamerError, JobError

__all__ = ["OutputClosedError", "Terminated", "guarded", "report_failure", "run_alone"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class OutputClosedError(Exception):
    """The reader of our standard output went away, as `| head` does; not a failure worth a word."""


class Terminated(BaseException):
    """SIGTERM came; raised so that half-written files are removed on the way out."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


@contextmanager
def guarded(debug: bool) -> Iterator[None]:
    """Run a command: libraries' warnings and logs only with `debug`, SIGTERM as an exception, quiet pipes."""
    in_main = threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGTERM, _terminate) if in_main else None
    level = logging.root.manager.disable
    if not debug:
        logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            if not debug and not sys.warnoptions:
                warnings.simplefilter("ignore")
            yield
    except BrokenPipeError:
        _drop_stdout()
        raise OutputClosedError from None
    finally:
        logging.disable(level)
        if in_main:
            signal.signal(signal.SIGTERM, previous)


def _drop_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush cannot fail."""
    with open(os.devnull, "w") as sink:
        os.dup2(sink.fileno(), sys.stdout.fileno())


def report_failure(error: BaseException, debug: bool) -> int:
    """Print the line of `error` to stderr, with its traceback when `debug`; returns the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    line, code = _describe(error)
    if debug:
        traceback.print_exception(error)
    print(line, file=sys.stderr)
    return code


def _describe(error: BaseException) -> tuple[str, int]:
    if isinstance(error, GossamerError):
        return f"error: {error}", error.exit_code
    if isinstance(error, typer.TyperException):
        return f"error: {_usage_line(error)}", error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "error: interrupted", 130
    if isinstance(error, Terminated):
        return "error: terminated", 128 + signal.SIGTERM
    if isinstance(error, MemoryError):
        return f"error: {JobError('out of memory', advice='use a machine with more memory')}", 1
    if isinstance(error, OSError):
        return f"error: {_os_error(error)}", 1
    text = " ".join(str(error).split()) or "no message"
    if len(text) > 300:
        text = text[:300] + "…"
    return f"internal error: {type(error).__name__}: {text} (run with --debug)", 1


def _usage_line(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "gossamer"
    message = " ".join(error.format_message().split()).rstrip(".")
    return f"{message[:1].lower()}{message[1:]}; see '{command} --help'"


def _os_error(error: OSError) -> JobError:
    reason = error.strerror or str(error)
    advice = "free some space and run again" if error.errno in _FULL else None
    return JobError(reason, where=error.filename, advice=advice)


def run_alone(command: Callable[..., None]) -> int:
    """Run a command that is no part of `gossamer`; returns the exit code."""
    app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    try:
        with guarded(debug=False):
            app(standalone_mode=False)
    except BaseException as error:
        return report_failure(error, debug=False)
    return 0
