"""Measures on this machine how a layer is best computed; see docs/architecture.md, "Tuning"."""

from .cache import TimingCache as TimingCache
from .tuner import MeasuringTuner as MeasuringTuner
