"""One test through the compiler: prepared, lowered, built, opened and run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from gossamer.kernels.targets import Target
from gossamer.runtime.errors import InputError

from .cases import Case
from .comparing import first_difference

__all__ = ["Outcome", "run_case"]


@dataclass(frozen=True)
class Outcome:
    """`result` is "passed", "refused" (before anything was built) or "failed"; `reason` is one line."""

    result: str
    reason: str = ""


def run_case(case: Case, target: Target) -> Outcome:
    """What becomes of a test on a target whose code runs in this process."""
    try:
        program = _lowered(case, target)
    except InputError as error:
        return Outcome("refused", str(error))
    except Exception as error:
        return Outcome("failed", _told("compiling", error))
    try:
        with tempfile.TemporaryDirectory(prefix="gossamer-") as folder:
            return _run(case, program, target, Path(folder))
    except Exception as error:
        return Outcome("failed", _told("running", error))


def _lowered(case: Case, target: Target) -> Any:
    from gossamer.kernels.lowering import lower
    from gossamer.passes.clean import prepare
    from gossamer.passes.loading import load_model

    model = case.model()
    return lower(prepare(load_model(model), _empty_shapes(case, model)), target)


def _empty_shapes(case: Case, model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes of inputs that are empty in the test: sizes are 1 or more where nothing else is said."""
    given = case.named(next(case.data_sets())[0])
    empty = {
        name: array for name, array in given.items() if isinstance(array, np.ndarray) and array.size == 0
    }
    is_open = {value.name: _is_open(value) for value in model.graph.input}
    return {name: array.shape for name, array in empty.items() if is_open[name]}


def _is_open(value: onnx.ValueInfoProto) -> bool:
    return any(not dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim)


def _run(case: Case, program: Any, target: Target, folder: Path) -> Outcome:
    from gossamer.kernels.building import fill_artifact
    from gossamer.kernels.lowering import emit_objects
    from gossamer.runtime.session import InferenceSession

    fill_artifact(program, emit_objects(program, target), target, folder, trial=True)
    for engine in _engines(target):
        with InferenceSession(folder, engine=engine) as session:
            names = [tensor.name for tensor in session.get_inputs()]
            for inputs, expected in case.data_sets():
                got = session.run(None, _feeds(case, names, inputs))
                reason = first_difference(case, expected, got)
                if reason:
                    return Outcome("failed", f"{engine}: {reason}" if engine else reason)
    return Outcome("passed")


def _engines(target: Target) -> Iterator[str | None]:
    """The builds of an artifact that run here."""
    from gossamer.runtime.wasm import ENGINES

    yield from ENGINES if target.family == "wasm" else (None,)


def _feeds(case: Case, names: list[str], inputs: list[Any]) -> dict[str, Any]:
    """Arrays by name: those of inputs that the session still has."""
    given = case.named(inputs)
    return {name: given[name] for name in names}


def _told(doing: str, error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{doing}: {type(error).__name__}: {text if len(text) <= 300 else text[:300] + '…'}"
