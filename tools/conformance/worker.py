"""A process that runs tests one after another; a test that crashes it takes no other along."""

from __future__ import annotations

import os
import time
import warnings
from multiprocessing.connection import Connection

__all__ = ["PRELOADED", "serve"]

PRELOADED = "gossamer.tools.conformance.warm"


def serve(connection: Connection, target_name: str, beside: bool) -> None:
    """Answers (suite, name, whether ours is wanted): result, reason and seconds, then onnxruntime's or None.

    Ends when the other side closes.
    """
    _silence()
    os.environ["OMP_NUM_THREADS"] = "1"
    from gossamer.kernels.targets import find_target

    from .cases import find_case
    from .ours import run_case
    from .theirs import run_onnxruntime

    target = find_target(target_name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while (job := _next(connection)) is not None:
            case, wanted = find_case(*job[:2]), job[2]
            if wanted:
                start = time.monotonic()
                outcome = run_case(case, target)
                connection.send((outcome.result, outcome.reason, time.monotonic() - start))
            theirs = run_onnxruntime(case) if beside else None
            connection.send(theirs and (theirs.result, theirs.reason))


def _next(connection: Connection) -> tuple[str, str, bool] | None:
    try:
        found: tuple[str, str, bool] = connection.recv()
    except EOFError:
        return None
    return found


def _silence() -> None:
    """What libraries print, such as the stack of a crash, would tear the table apart."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
