"""Results of measurements, kept as JSON in the folder of the tables: FOLDER/results/PART/MODEL.json."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gossamer.runtime.node import node_command

from ..browsing import find_browser
from ..javascript import WEB
from .measuring import Measurement, Row

__all__ = ["Result", "read_results", "write_result"]

_PACKAGES = ("gossamer", "onnxruntime", "openvino", "wasmtime")


@dataclass(frozen=True)
class Result:
    """What was measured of `model` for `part`, when, on what machine, with which versions."""

    part: str
    model: str
    date: str
    machine: str
    versions: Mapping[str, str]
    command: str
    rows: list[Row]

    def value(self, what: str) -> float | None:
        """The value of the row `what`, or None where there is none."""
        return next((float(row["value"]) for row in self.rows if row["what"] == what), None)


def write_result(work: Path, part: str, model: str, measured: Measurement) -> Result:
    """Keep a measurement of now and here."""
    date = datetime.date.today().isoformat()
    result = Result(part, model, date, _machine(), _versions(part), measured.command, measured.rows)
    path = work / "results" / part / f"{model}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")
    return result


def read_results(work: Path) -> list[Result]:
    """All that is kept in the folder."""
    return [_read(path) for path in sorted((work / "results").glob("*/*.json"))]


def _read(path: Path) -> Result:
    fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Result(**fields)


def _machine() -> str:
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
            break
    return f"{name}, {os.cpu_count()} cores"


def _versions(part: str) -> dict[str, str]:
    """Of everything that may have run in the part."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if part == "node":
        found["node"] = _number(*node_command())
    if part == "chromium":
        found["chromium"] = _number(find_browser())
    if part in ("node", "chromium"):
        found["onnxruntime-web"] = _packaged("onnxruntime-web")
    return found


def _number(*command: str) -> str:
    """The first number with a dot that the program prints as its version."""
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=60)
    found = re.search(r"\d+(\.\d+)+", done.stdout)
    return found[0] if found else "?"


def _packaged(name: str) -> str:
    wanted = json.loads((WEB / "package.json").read_text(encoding="utf-8"))
    return str(wanted["dependencies"][name])
