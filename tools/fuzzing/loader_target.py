"""A target of atheris: `python tools/fuzzing/loader_target.py [CORPUS]... [-max_total_time=60]`.

Any bytes must load or be refused by a ModelError; whatever else is raised, a crash or a hang ends the run.
"""

from __future__ import annotations

import sys

import atheris  # of the extra "fuzz"

with atheris.instrument_imports(include=["gossamer.passes", "gossamer.runtime"]):
    from gossamer.passes.loading import load_model
    from gossamer.runtime.errors import ModelError


def load(data: bytes) -> None:
    """Load `data` as a model."""
    try:
        load_model(data)
    except ModelError as error:
        if not str(error).isprintable():
            raise RuntimeError("a message is no line of text") from error


if __name__ == "__main__":
    atheris.Setup(sys.argv, load)
    atheris.Fuzz()
