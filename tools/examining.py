"""What stands in the way of compiling a model, without building anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gossamer.kernels.targets import find_target
from gossamer.runtime.errors import InputError, OptionError

if TYPE_CHECKING:
    from pathlib import Path

    from gossamer.passes.input_shapes import InputShapes

__all__ = ["Hindrance", "examine", "to_dict"]

_TYPE = "leave it out of the model: docs/artifact.md lists the types that are taken"
_SIZE = "give numbers for the sizes of inputs, as --input-shape x:1,3,224,224"
_SEE = "see docs/models.md"  # which says no more than this list does
_OPERATOR = "export the model without it, or leave this part of the model out of what is compiled"


@dataclass(frozen=True)
class Hindrance:
    """One thing in the way: where it is, what it is, and what to do about it."""

    operator: str
    name: str
    what: str
    expected: str
    got: str
    advice: str

    @classmethod
    def of(cls, error: InputError, operator: str = "", name: str = "") -> Hindrance:
        """What an error says; each has an advice."""
        expected, got = ("" if value is None else str(value) for value in (error.expected, error.got))
        given = error.advice
        advice = given if given and given != _SEE else _advice(error.what)
        return cls(operator, name, error.what, expected, got, advice)


def _advice(what: str) -> str:
    known = {"type": _TYPE, "size": _SIZE, "shape": _SIZE}
    return next((advice for word, advice in known.items() if word in what), _OPERATOR)


def examine(model: Path, targets: Sequence[str], shapes: InputShapes) -> dict[str, list[Hindrance]]:
    """By target, everything in the way; an empty list says that the model compiles.

    Raises OptionError for a wrong option, ModelError for a file that is no valid model.
    """
    from gossamer.kernels.lowering.surveying import find_obstacles
    from gossamer.passes.loading import load_model
    from gossamer.passes.preparing import prepare

    found = [find_target(name) for name in targets]
    loaded = load_model(model)
    try:
        prepared = prepare(loaded, shapes)
    except OptionError:
        raise
    except InputError as error:
        return {target.name: [Hindrance.of(error)] for target in found}
    return {
        target.name: [Hindrance.of(o.error, o.operator, o.name) for o in find_obstacles(prepared, target)]
        for target in found
    }


def to_dict(hindrance: Hindrance) -> dict[str, Any]:
    """Plain data without what is empty."""
    return {key: value for key, value in vars(hindrance).items() if value}
