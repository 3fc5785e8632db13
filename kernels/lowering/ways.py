"""Several ways to compute one layer, of which the estimate or a measurement takes one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..cpu.isa import Isa
from ..cpu.kernel import Kernel
from ..cpu.tensor import Tensor
from ..dims import is_fixed
from .choice import Choice
from .state import Lowering
from .tree import kernels_of

__all__ = ["TRIED", "Trial", "Tuner", "Way", "choose_way"]

TRIED = 5  # tiles of least estimated time that are measured


@dataclass(frozen=True)
class Way:
    """`lower` appends the kernels to a state.

    One that rounds more is taken only where it needs less than `worth` of the others' time.
    """

    choice: Choice
    lower: Callable[[Lowering], None]
    worth: float = 1.0
    name: str = ""  # of the algorithm, in place of the kernel's

    @property
    def label(self) -> str:
        """The choice in a word or two, unlike those of a layer's other ways."""
        choice = self.choice
        rows = f" of {choice.rows}x1 blocks" if choice.rows else ""
        return f"{self.name or choice.kernel}{rows} {choice.tile}"


@dataclass(frozen=True)
class Trial:
    """Kernels of one way, and the bytes of the weights they read (None for a tensor that is no weight)."""

    kernels: tuple[Kernel, ...]
    weight: Callable[[Tensor], bytes | None]


class Tuner(ABC):
    """Picks the fastest of several ways."""

    @abstractmethod
    def pick(
        self,
        layer: str,
        signature: tuple[Any, ...],
        ways: Mapping[str, Callable[[], Trial]],
        worth: Mapping[str, float],
        isa: Isa,
    ) -> tuple[str, str]:
        """The label of the fastest way, and the reason in words.

        `signature` is all that the times depend on, beside the labels; `layer` names it for people.
        """


_CLEARLY = 0.97  # of the estimate's way's time


def choose_way(
    state: Lowering, layer: str, signature: tuple[Any, ...], first: Way, others: Callable[[], Iterable[Way]]
) -> Way:
    """`first`, which is best by the estimate, or with a tuner the fastest of it and `others`.

    Another way must be clearly faster: what is measured alone and with warm caches says no more than that.
    Layers of a size that is known at run time are not measured.
    """
    if state.tuner is None or not _is_known(signature):
        return first
    ways: dict[str, Way] = {}
    for way in (first, *others()):
        ways.setdefault(way.label, way)
    if len(ways) == 1:
        return first
    kept = tuple((label, round(way.choice.kept, 2)) for label, way in ways.items())
    trials = {label: partial(_trial, state, way) for label, way in ways.items()}
    worth = {label: way.worth * (1.0 if way is first else _CLEARLY) for label, way in ways.items()}
    label, reason = state.tuner.pick(layer, (*signature, kept), trials, worth, state.isa)
    return replace(ways[label], choice=replace(ways[label].choice, reason=reason))


def _is_known(signature: tuple[Any, ...]) -> bool:
    """Whether all sizes are numbers: what is measured has some size."""
    return all(_is_known(part) if isinstance(part, tuple) else is_fixed(part) for part in signature)


def _trial(state: Lowering, way: Way) -> Trial:
    trial = state.trial()
    way.lower(trial)

    def weight(tensor: Tensor) -> bytes | None:
        found = trial.pool.data(tensor)
        return state.pool.data(tensor) if found is None else found

    return Trial(tuple(kernels_of(trial.steps)), weight)
