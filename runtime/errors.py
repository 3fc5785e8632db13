"""The error tree: every failure a user can cause or meet.

    GossamerError
    ├── InputError            exit code 2: what was given is wrong
    │   ├── OptionError       a command line option, recipe key or API argument
    │   ├── ModelError        an ONNX file or graph
    │   ├── UnsupportedError  a valid model that this compiler cannot take
    │   ├── ArtifactError     a compiled artifact
    │   └── FeedError         names, shapes or types given to a session
    └── JobError              exit code 1: the work itself failed (disk, tool, verification)

Each builds one line: what, where, expected, got, what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "ArtifactError",
    "FeedError",
    "GossamerError",
    "InputError",
    "JobError",
    "ModelError",
    "OptionError",
    "UnsupportedError",
    "nearest",
]

_LONGEST = 400
"""Characters of each part of a message."""


class GossamerError(Exception):
    """One failure, told in one line; `what` is a clause, the rest is optional data."""

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        got: object = None,
        advice: str | None = None,
    ) -> None:
        self.what, self.where, self.expected, self.got, self.advice = what, where, expected, got, advice
        super().__init__(self._text())

    def _text(self) -> str:
        text = _short(self.what) if self.where is None else f"{_short(self.where)}: {_short(self.what)}"
        if self.expected is not None:
            text += f"; expected {_short(self.expected)}"
        if self.got is not None:
            text += f"; got {_short(self.got)}"
        if self.advice is not None:
            text += f"; {_short(self.advice)}"
        return text


def _short(part: object) -> str:
    """One line of bounded length, also of a name that a hostile file made up: no control characters."""
    text = " ".join(str(part).split())
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST // 2]}…{text[-_LONGEST // 2 :]}"


class InputError(GossamerError):
    """What was given is wrong."""

    exit_code = 2


class OptionError(InputError):
    """A command line option, a recipe key or an API argument is wrong."""


class ModelError(InputError):
    """An ONNX file or graph is broken, unsafe or invalid."""


class UnsupportedError(InputError):
    """A valid model that this compiler cannot take; names operator, node and reason."""


class ArtifactError(InputError):
    """A compiled artifact is broken, altered, or not for this machine."""


class FeedError(InputError):
    """A session was given a wrong name, shape or type."""


class JobError(GossamerError):
    """The work itself failed: disk, an outside tool, or verification."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Advice naming the known word most like `word`, else None.

    >>> nearest("sparse80", ["sparse-80", "default"])
    'did you mean sparse-80?'
    """
    found = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {found[0]}?" if found else None
