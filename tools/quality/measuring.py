"""One point: the model is converted, its weights are counted and the task is scored; kept as JSON."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from gossamer.runtime.errors import GossamerError

from ..converting import convert
from .curves import Curve, Level
from .onnxruntime_quantizer import quantize_by_onnxruntime
from .tasks import Task

__all__ = ["Point", "baseline", "kept", "measure"]

_DENSE = Curve(
    name="dense", title="Dense", recipe="default", calibrate=False, levels=(Level(label="float32"),)
)


@dataclass(frozen=True)
class Point:
    """`bytes` are those of all weights; `score` is None where the conversion was refused: `note` says why."""

    task: str
    curve: str
    level: str
    bytes: int
    score: float | None
    seconds: float
    note: str = ""


def baseline(task: Task, folder: Path) -> Point:
    """The model as it is, cleaned."""
    return measure(task, _DENSE, _DENSE.levels[0], folder)


def measure(task: Task, curve: Curve, level: Level, folder: Path) -> Point:
    """The point of `level`, converted to `folder`; taken from there where it was measured before."""
    if (point := kept(task, curve, level, folder)) is not None:
        return point
    path = _path(task, curve, level, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    point = _measured(task, curve, level, path.with_suffix(".onnx"))
    data = {"key": _key(curve, level), **asdict(point)}
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return point


def kept(task: Task, curve: Curve, level: Level, folder: Path) -> Point | None:
    """The point as it was measured before, with the same recipe and settings."""
    path = _path(task, curve, level, folder)
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return Point(**found) if found.pop("key", None) == _key(curve, level) else None


def _path(task: Task, curve: Curve, level: Level, folder: Path) -> Path:
    return folder / task.name / curve.name / f"{level.label.replace(' ', '-').replace('%', '')}.json"


def _key(curve: Curve, level: Level) -> dict[str, object]:
    found: dict[str, object] = {"recipe": level.recipe or curve.recipe, "data": curve.calibrate}
    found["set"] = [*curve.set, *level.set]
    return found if curve.quantizer == "gossamer" else {**found, "quantizer": curve.quantizer}


def _measured(task: Task, curve: Curve, level: Level, file: Path) -> Point:
    begin = time.monotonic()
    try:
        size = _converted(task, curve, level, file)
    except GossamerError as error:
        return Point(task.name, curve.name, level.label, 0, None, time.monotonic() - begin, str(error))
    seconds = time.monotonic() - begin
    return Point(task.name, curve.name, level.label, size, task.score(file), round(seconds, 1))


def _converted(task: Task, curve: Curve, level: Level, file: Path) -> int:
    """Write the converted model; returns the bytes of its weights."""
    options = [*curve.set, *level.set]
    data = task.calibration() if curve.calibrate else ()
    if curve.quantizer == "onnxruntime":
        return quantize_by_onnxruntime(task.path, file, options, data)
    result = convert(task.path, level.recipe or curve.recipe, settings=options, calibration=data)
    result.save(file)
    return result.report.bytes_after
