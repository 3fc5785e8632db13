"""Runs a piece of work in a forked process with limits on memory and processor time."""

from __future__ import annotations

import faulthandler
import os
import pickle
import resource
import select
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gossamer.runtime.errors import GossamerError, InputError

__all__ = ["Limits", "Outcome", "guarded"]

_LONGEST_LINE = 1200
"""Characters of a message; where, expected and got are cut by whoever builds it."""


@dataclass(frozen=True)
class Limits:
    """What one piece of work may take: `memory` is bytes beyond what the parent has mapped."""

    seconds: int = 10
    memory: int = 3 << 30


@dataclass(frozen=True)
class Outcome:
    """How a piece of work ended.

    `kind` is "done" (`value` is what it returned), "refused" (an InputError), "failed" (a JobError), and what
    must not happen: "raised" (another exception, or a message that is no short line), "memory", "hang" and
    "crash".
    """

    kind: str
    text: str = ""
    value: Any = None

    @property
    def fault(self) -> bool:
        """Whether it ended in a way that no input may cause."""
        return self.kind not in ("done", "refused")


def guarded(work: Callable[[], Any], limits: Limits) -> Outcome:
    """What `work` does in a process of its own; its value must survive pickling."""
    with tempfile.TemporaryFile() as errors:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            _child(work, limits, write, errors)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            data = _received(pipe, child, limits)
        _, status = os.waitpid(child, 0)
        if data is not None and status == 0:
            found = pickle.loads(data)
            assert isinstance(found, Outcome)
            return found
        errors.seek(0)
        return _ended(status, data is None, errors.read().decode(errors="replace"))


def _child(work: Callable[[], Any], limits: Limits, write: int, errors: BinaryIO) -> None:
    """Never returns."""
    status = 1
    try:
        os.dup2(errors.fileno(), 1)
        os.dup2(errors.fileno(), 2)
        faulthandler.enable(file=2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (_mapped() + limits.memory,) * 2)
        cpu = time.process_time() + limits.seconds
        resource.setrlimit(resource.RLIMIT_CPU, (int(cpu) + 1, int(cpu) + 2))
        data = pickle.dumps(_outcome(work))
        with os.fdopen(write, "wb") as pipe:
            pipe.write(data)
        status = 0
    finally:
        os._exit(status)


def _mapped() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _outcome(work: Callable[[], Any]) -> Outcome:
    try:
        return Outcome("done", value=work())
    except GossamerError as error:
        text = str(error)
        if len(text) > _LONGEST_LINE or "\n" in text or not text.isprintable():
            return Outcome("raised", f"no short line: {text[:_LONGEST_LINE]!r}")
        inner = error.__cause__ is not None and not isinstance(error, InputError)
        return Outcome("refused" if isinstance(error, InputError) else "failed", text + _trace(error) * inner)
    except MemoryError as error:
        return Outcome("memory", _trace(error))
    except Exception as error:
        return Outcome("raised", f"{type(error).__name__}: {str(error)[:300]}{_trace(error)}")


def _trace(error: BaseException) -> str:
    """The places of the error's cause, innermost last."""
    while error.__cause__ is not None:
        error = error.__cause__
    places, trace = list[str](), error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{Path(code.co_filename).name}:{trace.tb_lineno}:{code.co_name}")
        trace = trace.tb_next
    return " @ " + " < ".join(reversed(places[-6:]))


def _received(pipe: BinaryIO, child: int, limits: Limits) -> bytes | None:
    """All that the child writes; None when it was killed for taking far too long on the clock."""
    parts, end = list[bytes](), time.monotonic() + 12 * limits.seconds
    while True:
        ready, _, _ = select.select([pipe], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            os.kill(child, signal.SIGKILL)
            return None
        part = os.read(pipe.fileno(), 1 << 20)
        if not part:
            return b"".join(parts)
        parts.append(part)


def _ended(status: int, late: bool, errors: str) -> Outcome:
    lines = [" ".join(line.split()) for line in errors.splitlines() if line.strip()]
    text = " | ".join(lines[:8])[:800]
    if late or (os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)):
        return Outcome("hang", text)
    if "bad_alloc" in errors or "out of memory" in errors.lower():
        return Outcome("memory", text)
    name = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"status {status >> 8}"
    return Outcome("crash", f"{name}: {text}")
