"""Picks the fastest way to compute a layer by measuring all of them, once for each machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..cpu.isa import Isa
from ..lowering.ways import Trial, Tuner
from .cache import TimingCache
from .measuring import measure
from .processor import processor_name

__all__ = ["MeasuringTuner"]

Measure = Callable[[Sequence[Trial], Isa], list[float]]


class MeasuringTuner(Tuner):
    """`note` is told of every layer that is measured, `measure` gives the seconds of each trial."""

    def __init__(
        self,
        cache: TimingCache | None = None,
        note: Callable[[str], None] = lambda layer: None,
        measure: Measure = measure,
    ) -> None:
        self._cache = cache or TimingCache()
        self._note, self._measure = note, measure

    def pick(
        self,
        layer: str,
        signature: tuple[Any, ...],
        ways: Mapping[str, Callable[[], Trial]],
        worth: Mapping[str, float],
        isa: Isa,
    ) -> tuple[str, str]:
        """The fastest, from the cache where the layer's signature is known."""
        target = isa.target
        machine = (processor_name(), target.triple, target.cpu, isa.features, target.vector_bits)
        key = (machine, signature, tuple(ways))
        times = self._cache.get(key)
        if times is None or set(times) != set(ways):
            self._note(layer)
            seconds = self._measure([make() for make in ways.values()], isa)
            times = dict(zip(ways, seconds, strict=True))
            self._cache.put(key, layer, times)
        return _fastest(times, worth)


def _fastest(times: Mapping[str, float], worth: Mapping[str, float]) -> tuple[str, str]:
    """The label that wins, and its time beside the next one's."""
    first, second = sorted(times, key=lambda label: times[label] / worth[label])[:2]
    fastest, next_one = (_milliseconds(times[label]) for label in (first, second))
    return first, f"{first} measured {fastest}, next {second} {next_one}"


def _milliseconds(seconds: float) -> str:
    """Three digits, and no exponent for long times.

    >>> _milliseconds(0.000912), _milliseconds(1.5)
    ('0.912 ms', '1500 ms')
    """
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds * 1e3:.0f} ms"
