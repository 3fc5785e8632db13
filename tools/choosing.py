"""Which engine runs which model: texts `PATH` and `ENGINE[@VARIANT]:PATH`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

from gossamer.runtime.errors import OptionError, nearest

from .engine import Engine, is_artifact

__all__ = ["Choice", "engine_names", "open_engine", "parse_choice"]

_FOLDER = Path(__file__).with_name("engines")
_CHOICE = re.compile(r"(?P<engine>[a-z][a-z0-9_-]+)(?:@(?P<variant>[^:]+))?:(?P<path>.+)")
_FREE = "PYTHON"  # stands in an engine's VARIANTS for the path of a Python interpreter


@dataclass(frozen=True)
class Choice:
    """A model, the engine that shall run it, and how: one of the engine's variants.

    `budget_mb` is how much of its weights an artifact may load, None all.
    """

    engine: str
    variant: str
    path: Path
    budget_mb: float | None = None

    def within(self, budget_mb: float | None) -> Choice:
        """The same under a budget. Raises OptionError where nothing but the whole model can be loaded."""
        if budget_mb is not None and (self.engine, self.variant) != ("gossamer", "in-process"):
            raise OptionError(
                "only artifacts that run in process have a budget", where="--budget-mb", got=self
            )
        return replace(self, budget_mb=budget_mb)

    def __str__(self) -> str:
        return f"{self.engine}@{self.variant}:{self.path}"

    @property
    def label(self) -> str:
        """The engine, and the variant where there is another that is usual."""
        usual = _module(self.engine).VARIANTS[0]
        return self.engine if usual in (self.variant, _FREE) else f"{self.engine}@{self.variant}"


@cache
def engine_names() -> list[str]:
    """All engines, whether installed or not."""
    return sorted(p.stem.replace("_", "-") for p in _FOLDER.glob("*.py") if p.stem != "__init__")


def _module(engine: str) -> ModuleType:
    return import_module(f"{__package__}.engines.{engine.replace('-', '_')}")


def parse_choice(text: str | Path) -> Choice:
    """What `text` chooses; a plain path is an artifact folder, or a file that the suffix tells an engine of.

    Raises OptionError for an engine or a variant that does not exist.
    """
    match = _CHOICE.fullmatch(str(text))
    if match is None or (match["engine"] not in engine_names() and Path(text).exists()):
        path = Path(text)
        engine = "gossamer" if is_artifact(path) else _engine_of(path)
        return Choice(engine, _module(engine).VARIANTS[0], path)
    engine, variant = match["engine"], match["variant"]
    if engine not in engine_names():
        raise OptionError(
            "unknown engine",
            where=str(text),
            expected="one of " + ", ".join(engine_names()),
            got=engine,
            advice=nearest(engine, engine_names()),
        )
    variants = _module(engine).VARIANTS
    chosen = variant or variants[0]
    if chosen not in variants and _FREE not in variants:
        raise OptionError(
            f"{engine} has no such variant", where=str(text), expected=" or ".join(variants), got=chosen
        )
    return Choice(engine, chosen, Path(match["path"]))


def _engine_of(path: Path) -> str:
    return "litert" if path.suffix == ".tflite" else "onnxruntime"


def open_engine(
    model: Choice | str | Path,
    threads: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Engine:
    """Open a model in the engine that `model` names, with `threads` threads.

    Without a number an artifact uses its own, any other engine one. `shapes` gives symbolic dimensions of an
    ONNX file numbers. Raises InputError, also where the engine is not installed.
    """
    chosen = model if isinstance(model, Choice) else parse_choice(model)
    budget = {} if chosen.budget_mb is None else {"budget_mb": chosen.budget_mb}
    module = _module(chosen.engine)
    opened: Engine = module.open_model(chosen.path, chosen.variant, threads, shapes or {}, **budget)
    return opened
