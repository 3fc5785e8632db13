"""One engine in a process of its own, timed on request: `python -m gossamer.tools.bench_worker`.

Lines of JSON come in, one goes out for each: `{"open": {...}}` answers the inputs, `{"run": seconds}` the
times in nanoseconds of one turn. Between turns the bench stops the process, so the others run alone.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np

from gossamer.runtime.errors import GossamerError

from .engines import Engine, SelfTimed, make_feeds, open_engine, parse_choice

__all__ = ["main", "timed_turn"]

_FEWEST = 3  # timed runs in a turn, however long one takes


def timed_turn(engine: Engine, feeds: dict[str, np.ndarray[Any, Any]], seconds: float) -> list[int]:
    """Nanoseconds of each run in one turn of about `seconds`; an untimed run first refills the caches."""
    engine.run(feeds)
    times: list[int] = []
    end = time.perf_counter_ns() + int(seconds * 1e9)
    while len(times) < _FEWEST or time.perf_counter_ns() < end:
        start = time.perf_counter_ns()
        engine.run(feeds)
        times.append(time.perf_counter_ns() - start)
    return times


def _answer(request: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    if "open" in request:
        wanted = request["open"]
        choice = parse_choice(wanted["model"]).within(wanted["budget_mb"])
        engine = open_engine(choice, wanted["threads"], wanted["shapes"])
        state["engine"], state["feeds"] = engine, make_feeds(engine.inputs, None, wanted["seed"])
        return {"inputs": [i.name for i in engine.inputs]}
    engine, feeds, seconds = state["engine"], state["feeds"], request["run"]
    own = isinstance(engine, SelfTimed)
    return {"times": engine.turn(feeds, seconds) if own else timed_turn(engine, feeds, seconds)}


def main() -> None:
    """Serve until the pipe closes."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print must not mix with replies
    state: dict[str, Any] = {}
    for line in sys.stdin:
        try:
            reply = _answer(json.loads(line), state)
        except GossamerError as error:
            reply = {"error": str(error), "code": error.exit_code}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
