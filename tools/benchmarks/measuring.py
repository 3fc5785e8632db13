"""The parts of the tables: what each one runs for a model, and what is kept of it."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gossamer.runtime.manifest import MANIFEST, read_manifest

from ..benching import Timing, bench
from ..choosing import Choice, parse_choice
from ..console import note
from .building import Builds

__all__ = ["PARTS", "Measurement", "Options", "Part"]

Row = dict[str, Any]
_TURN_SECONDS = 0.4


@dataclass(frozen=True)
class Options:
    """How often each engine gets a turn, and engines to run beside onnxruntime on the dense model."""

    rounds: int = 10
    peers: Sequence[str] = ()


@dataclass(frozen=True)
class Measurement:
    """Rows of one model: each has `what` it is, the `value` that goals are about, and details."""

    command: str
    rows: list[Row]


@dataclass(frozen=True)
class Part:
    """One table: the name, the title, what is done for a model, and the models that have it (None: all)."""

    name: str
    title: str
    measure: Callable[[Builds, Options], Measurement]
    columns: dict[str, str] = field(default_factory=dict)
    models: tuple[str, ...] | None = None


def _native(builds: Builds, options: Options) -> Measurement:
    models = {
        "onnxruntime": str(builds.onnx()),
        **{peer: f"{peer}:{builds.onnx()}" for peer in options.peers},
        "dense": str(builds.artifact("dense", "host")),
        "30 %": str(builds.artifact("sparse-30", "host")),
        "80 %": str(builds.artifact("sparse-80", "host")),
    }
    return _timed(builds, models, options)


def _web(place: str) -> Callable[[Builds, Options], Measurement]:
    def measure(builds: Builds, options: Options) -> Measurement:
        ours = f"gossamer@{place}"
        models = {
            "onnxruntime": str(builds.onnx()),
            "onnxruntime-web": f"onnxruntime-web@{place}:{builds.onnx()}",
            "dense": f"{ours}:{builds.artifact('dense', 'wasm')}",
            "80 %": f"{ours}:{builds.artifact('sparse-80', 'wasm')}",
            "90 %": f"{ours}:{builds.artifact('sparse-90', 'wasm')}",
        }
        return _timed(builds, models, options)

    return measure


def _threads(builds: Builds, options: Options) -> Measurement:
    path = builds.artifact("dense", "host")
    note(f"measuring {path} with 1 and 2 threads")
    timings = bench([path, path], threads=[1, 2], rounds=options.rounds, turn_seconds=_TURN_SECONDS)
    rows = [_row(f"{t.threads} thread{'s' * (t.threads > 1)}", t) for t in timings]
    commands = (f"gossamer bench {_brief(builds, str(path))} --threads {n}" for n in (1, 2))
    return Measurement("; ".join(commands), rows)


def _timed(builds: Builds, models: dict[str, str], options: Options) -> Measurement:
    choices: list[Choice | str | Path] = [parse_choice(text) for text in models.values()]
    command = "gossamer bench " + " ".join(_brief(builds, text) for text in models.values())
    note(command)
    timings = bench(choices, rounds=options.rounds, turn_seconds=_TURN_SECONDS)
    return Measurement(command, [_row(what, t) for what, t in zip(models, timings, strict=True)])


def _row(what: str, timing: Timing) -> Row:
    return {"what": what, "value": timing.median_ms, **timing.to_dict(), "name": ""}


def _arm64(builds: Builds, options: Options) -> Measurement:
    from ..counting import count_instructions

    models = {
        "onnxruntime": builds.onnx(),
        "dense": builds.artifact("dense", "arm64-linux"),
        "80 %": builds.artifact("sparse-80", "arm64-linux"),
    }
    command = "gossamer bench --count-instructions "
    command += " ".join(_brief(builds, str(path)) for path in models.values())
    note(command)
    counts = count_instructions(list(models.values()))
    rows = [
        {"what": what, "value": count.total, **count.to_dict(), "name": ""}
        for what, count in zip(models, counts, strict=True)
    ]
    return Measurement(command, rows)


def _sizes(builds: Builds, options: Options) -> Measurement:
    rows: list[Row] = []
    for target in ("host", "wasm"):
        made = builds.compilation("dense", target)
        rows.append({"what": f"compiling for {target}, seconds", "value": made.seconds})
        rows.append({"what": f"compiling for {target}, peak MB", "value": made.peak_bytes / 1e6})
    wasm = builds.artifact("dense", "wasm")
    code = sum(len(gzip.compress(path.read_bytes())) for path in _web_code(wasm))
    rows.append({"what": "web code, gzip, KB", "value": code / 1000})
    manifest = read_manifest(builds.artifact("dense", "host") / MANIFEST)
    rows.append({"what": "activations, MB", "value": manifest.arena_bytes / 1e6})
    rows.append({"what": "alive at once, MB", "value": manifest.arena_bound_bytes / 1e6})
    return Measurement("gossamer compile MODEL/dense.onnx DIR --target host (and wasm)", rows)


def _web_code(artifact: Path) -> list[Path]:
    """What a page fetches before weights: both builds, and our JavaScript."""
    return [*sorted(artifact.glob("*.wasm")), artifact / "gossamer.js"]


def _brief(builds: Builds, text: str) -> str:
    """The same text with paths as seen from the folder of the tables."""
    return text.replace(f"{builds.folder.parent}/", "")


_TIMES = {"engine": "engine", "median_ms": "median ms", "p10_ms": "p10", "p90_ms": "p90", "ratio": "ratio"}
_COUNTS = {
    **{"engine": "engine", "total": "total", "multiply_add": "multiply-add", "vector": "vector"},
    **{"load": "load", "store": "store", "branch": "branch", "other": "other", "ratio": "ratio"},
}
PARTS = {
    part.name: part
    for part in (
        Part("native", "Native, one thread", _native, _TIMES),
        Part("threads", "Native, dense, one and two threads", _threads, _TIMES, ("mobilenet-v1", "resnet50")),
        Part("node", "WebAssembly in Node, one thread", _web("node"), _TIMES),
        Part("chromium", "WebAssembly in Chromium, one thread", _web("chromium"), _TIMES),
        Part("arm64", "AArch64, millions of instructions of one inference", _arm64, _COUNTS),
        Part("sizes", "Compiling, code, memory", _sizes, {"value": "value"}),
    )
}
