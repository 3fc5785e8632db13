"""Texts of the command line, parsed strictly."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from gossamer.runtime.errors import OptionError, nearest

__all__ = [
    "check_parent",
    "choose_output",
    "known_names",
    "match_inputs",
    "parse_open_shapes",
    "parse_shapes",
    "parse_shard",
    "parse_share",
    "parse_size",
    "split_targets",
]

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SIZE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?) ?(?P<unit>x|[KMG]?i?B)", re.IGNORECASE)


def parse_open_shapes(texts: Sequence[str]) -> dict[str, tuple[int | str, ...]]:
    """Shapes by input name from texts `name:1,3,224,224` or `name:1,seq<=512`. Raises OptionError.

    >>> parse_open_shapes(["x:1,3,8,8", "ids:1,seq"])
    {'x': (1, 3, 8, 8), 'ids': (1, 'seq')}
    """
    if not texts:
        return {}
    from gossamer.passes.input_shapes import parse_input_shapes

    return parse_input_shapes(texts)


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The same where every size is a number. Raises OptionError."""
    shapes = {}
    for name, shape in parse_open_shapes(texts).items():
        shapes[name] = tuple(size for size in shape if isinstance(size, int))
        if len(shapes[name]) < len(shape):
            raise OptionError("a size is no number", where=f"--input-shape {name}", got=list(shape))
    return shapes


def match_inputs(shapes: Iterable[str], inputs: Sequence[str]) -> None:
    """Refuse shapes for inputs that the model does not have. Raises OptionError."""
    for name in shapes:
        if name not in inputs:
            raise OptionError(
                "the model has no such input",
                where=f"--input-shape {name}",
                expected="one of " + ", ".join(inputs),
                advice=nearest(name, inputs),
            )


def choose_output(option: Path | None, positional: Path | None) -> Path:
    """The output path, given as `-o OUT` or as the second positional. Raises OptionError."""
    if option is not None and positional is not None and option != positional:
        raise OptionError("two outputs are given", where="-o", got=f"{option} and {positional}")
    chosen = option or positional
    if chosen is None:
        raise OptionError("no output is given", expected="-o OUT, or OUT as the second argument")
    check_parent(chosen)
    return chosen


def check_parent(path: Path) -> None:
    """Refuse an output whose folder does not exist, before any work is done. Raises OptionError."""
    parent = path.absolute().parent
    if not parent.is_dir():
        raise OptionError(
            "the folder of the output does not exist", where=path, advice=f"make it: mkdir -p {parent}"
        )


def split_targets(text: str) -> list[str]:
    """Target names from `host,wasm`; each once. Raises OptionError.

    >>> split_targets("host, wasm")
    ['host', 'wasm']
    """
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise OptionError("an empty target name", where="--target", got=repr(text))
    for name in names:
        if names.count(name) > 1:
            raise OptionError("given twice", where=f"--target {name}")
    return names


def known_names(option: str, names: list[str], known: list[str]) -> list[str]:
    """The names that were given for `option`, or all that are `known`. Raises OptionError."""
    for name in names:
        if name not in known:
            raise OptionError(
                "is not known",
                where=f"{option} {name}",
                expected=", ".join(known),
                advice=nearest(name, known),
            )
    return names or known


def parse_size(option: str, text: str) -> int | float:
    """Bytes, or a share as a float. Raises OptionError.

    >>> parse_size("--target-size", "3MB"), parse_size("--target-size", "0.25x")
    (3000000, 0.25)
    """
    found = _SIZE.fullmatch(text.strip())
    unit = found["unit"].upper() if found else ""
    if found is None or (unit != "X" and unit not in _UNITS) or float(found["number"]) == 0:
        raise OptionError("is not a size", where=option, expected="0.25x, 300KB or 3MB", got=repr(text))
    number = float(found["number"])
    return number if unit == "X" else round(number * _UNITS[unit])


def parse_share(option: str, text: str) -> float:
    """A share from `1%` or `0.01`. Raises OptionError.

    >>> parse_share("--max-drop", "1%")
    0.01
    """
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise OptionError("is not a share", where=option, expected="1% or 0.01, from 0 to 1", got=repr(text))
    return share


def parse_shard(text: str) -> tuple[int, int]:
    """Which part of how many. Raises OptionError.

    >>> parse_shard("2/8")
    (2, 8)
    """
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
    part, parts = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= part <= parts:
        raise OptionError(
            "is not a shard", where="--shard", expected="K/N with K from 1 to N", got=repr(text)
        )
    return part, parts
