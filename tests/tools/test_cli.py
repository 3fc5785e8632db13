"""The command line itself: discovery, help, exit codes, one line for every failure."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import gossamer
from gossamer.runtime.errors import JobError, OptionError
from gossamer.tools import cli
from gossamer.tools.failing import Terminated, guarded, report_failure

from .conftest import Run

COMMANDS = (
    "bench",
    "check",
    "compare",
    "compile",
    "conformance",
    "convert",
    "export",
    "inspect",
    "list",
    "run",
)
HEAVY = ("numpy", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "tvm", "torch", "rich", "pydantic", "yaml")


def test_every_command_of_the_folder_is_offered(run: Run) -> None:
    assert cli.command_names() == COMMANDS
    result = run("--help")
    assert result.code == 0
    assert all(f"  {name} " in result.out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(run: Run, name: str) -> None:
    result = run(name, "--help")
    assert result.code == 0
    assert f"Usage: gossamer {name}" in result.out


def test_no_arguments_print_the_help(run: Run) -> None:
    assert run().out == run("--help").out


def test_version(run: Run) -> None:
    assert run("--version").out == f"gossamer {gossamer.__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from gossamer.tools.cli import main; main(['--help']);"
        f"print(*(set(sys.modules) & set({HEAVY})), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "\n")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["inspekt"], "did you mean 'inspect'"),
        (["list"], "missing argument"),
        (["list", "targets", "--jsn"], "no such option: --jsn"),
        (["list", "colours"], "nothing of that kind is listed"),
        (["run", "x", "--threads", "0"], "--threads"),
        (["run", "x", "--threads", "many"], "--threads"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(run: Run, words: list[str], text: str) -> None:
    result = run(*words)
    assert (result.code, result.out) == (2, "")
    assert text in result.err.lower()
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(what: str) -> object:
        raise error

    monkeypatch.setattr("gossamer.tools.listing.list_things", fail)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (OptionError("wrong", got=3), 2, "error: wrong; got 3\n"),
        (JobError("broken", where="here"), 1, "error: here: broken\n"),
        (MemoryError(), 1, "error: out of memory; use a machine with more memory\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "out/file"),
            1,
            "error: out/file: No space left on device; free some space and run again\n",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "f"), 1, "error: f: Permission denied\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (RuntimeError("two\nlines"), 1, "internal error: RuntimeError: two lines (run with --debug)\n"),
        (ZeroDivisionError(), 1, "internal error: ZeroDivisionError: no message (run with --debug)\n"),
    ],
)
def test_every_failure_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str
) -> None:
    failing(monkeypatch, error)
    result = run("list", "targets")
    assert (result.code, result.out, result.err) == (code, "", line)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_debug_shows_the_traceback_wherever_it_stands(
    run: Run, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    failing(monkeypatch, RuntimeError("inner"))
    words = ["list", "targets"]
    words.insert(place, "--debug")
    result = run(*words)
    assert result.code == 1
    assert "Traceback" in result.err
    assert result.err.endswith("internal error: RuntimeError: inner (run with --debug)\n")


def test_a_closed_pipe_is_no_failure_to_talk_about() -> None:
    command = [sys.executable, "-P", "-m", "gossamer.tools.cli", "list", "targets"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def hold_and_be_terminated(held: Path) -> None:
    with guarded(debug=False):
        held.touch()
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            held.unlink()


def test_sigterm_runs_the_clean_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated) as caught:
        hold_and_be_terminated(tmp_path / "held")
    assert report_failure(caught.value, debug=False) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "error: terminated\n"
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before
