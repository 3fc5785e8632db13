"""The parts of the tables: what each one runs for a model, and what is kept of it."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gossamer.runtime.manifest import MANIFEST, read_manifest

from ..benching import Timing, bench
from ..console import note
from .building import Builds
from .single_layers import SINGLE_LAYERS

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
class Entrant:
    """What runs in a part: an engine ("" is the path's own), a kind of model, a target (None: the ONNX)."""

    engine: str
    kind: str
    target: str | None = None

    def text(self, builds: Builds) -> str:
        """What `gossamer bench` calls it, built where it has to be. Raises JobError."""
        path = builds.artifact(self.kind, self.target) if self.target else builds.onnx(self.kind)
        return f"{self.engine}:{path}" if self.engine else str(path)


Entrants = dict[str, Entrant]


@dataclass(frozen=True)
class Part:
    """One table: its name and title, what runs, how it is measured, its models (None: all of the zoo)."""

    name: str
    title: str
    entrants: Entrants
    measure_entrants: Callable[[Builds, Entrants, Options], Measurement]
    columns: dict[str, str] = field(default_factory=dict)
    models: tuple[str, ...] | None = None

    def takes(self, model: str) -> bool:
        """Whether `model` is measured in this part."""
        return model not in SINGLE_LAYERS if self.models is None else model in self.models

    def build(self, builds: Builds) -> None:
        """Build all that runs. Raises JobError."""
        for entrant in self.entrants.values():
            entrant.text(builds)

    def measure(self, builds: Builds, options: Options) -> Measurement:
        """Build and measure. Raises InputError or JobError."""
        return self.measure_entrants(builds, self.entrants, options)


def _web(place: str) -> Entrants:
    return {
        "onnxruntime": Entrant("", "dense"),
        "onnxruntime-web": Entrant(f"onnxruntime-web@{place}", "dense"),
        "dense": Entrant(f"gossamer@{place}", "dense", "wasm"),
        "80 %": Entrant(f"gossamer@{place}", "sparse-80", "wasm"),
        "90 %": Entrant(f"gossamer@{place}", "sparse-90", "wasm"),
    }


def _native(builds: Builds, entrants: Entrants, options: Options) -> Measurement:
    return _timed(builds, {**entrants, **{peer: Entrant(peer, "dense") for peer in options.peers}}, options)


def _threads(builds: Builds, entrants: Entrants, options: Options) -> Measurement:
    path = entrants["dense"].text(builds)
    note(f"measuring {path} with 1 and 2 threads")
    timings = bench([path, path], threads=[1, 2], rounds=options.rounds, turn_seconds=_TURN_SECONDS)
    rows = [_row(f"{t.threads} thread{'s' * (t.threads > 1)}", t) for t in timings]
    commands = (f"gossamer bench {_brief(builds, path)} --threads {n}" for n in (1, 2))
    return Measurement("; ".join(commands), rows)


def _timed(builds: Builds, entrants: Entrants, options: Options) -> Measurement:
    texts = [entrant.text(builds) for entrant in entrants.values()]
    command = "gossamer bench " + " ".join(_brief(builds, text) for text in texts)
    note(command)
    timings = bench(texts, rounds=options.rounds, turn_seconds=_TURN_SECONDS)
    return Measurement(command, [_row(what, t) for what, t in zip(entrants, timings, strict=True)])


def _row(what: str, timing: Timing) -> Row:
    return {"what": what, "value": timing.median_ms, **timing.to_dict(), "name": ""}


def _arm64(builds: Builds, entrants: Entrants, options: Options) -> Measurement:
    from ..counting import count_instructions

    texts = [entrant.text(builds) for entrant in entrants.values()]
    command = "gossamer bench --count-instructions " + " ".join(_brief(builds, text) for text in texts)
    note(command)
    rows = [
        {"what": what, "value": count.total, **count.to_dict(), "name": ""}
        for what, count in zip(entrants, count_instructions(texts), strict=True)
    ]
    return Measurement(command, rows)


def _sizes(builds: Builds, entrants: Entrants, options: Options) -> Measurement:
    rows: list[Row] = []
    for target in ("host", "wasm"):
        made = builds.compilation("dense", target)
        if made.seconds:  # none for an artifact that was kept
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
_HOST = {"dense": Entrant("", "dense", "host")}
_NATIVE = {
    **{"onnxruntime": Entrant("", "dense"), **_HOST},
    **{f"{share} %": Entrant("", f"sparse-{share}", "host") for share in (30, 80)},
}
_ARM64 = {
    "onnxruntime": Entrant("", "dense"),
    "dense": Entrant("", "dense", "arm64-linux"),
    "80 %": Entrant("", "sparse-80", "arm64-linux"),
}
_COMPRESSED = {
    "onnxruntime": Entrant("", "dense"),
    **_HOST,
    "4-bit palette": Entrant("", "palette-4bit", "host"),
    "3-bit palette": Entrant("", "palette-3bit", "host"),
    "50 % and 4-bit palette": Entrant("", "joint-small", "host"),
    "50 % in 8×1 and 4-bit palette": Entrant("", "joint-8x1", "host"),
}
_COMPRESSED_WEB = {
    what: Entrant("gossamer@node", entrant.kind, "wasm")
    for what, entrant in _COMPRESSED.items()
    if entrant.target
}
_FEW_BITS = {name: name for name in ("int8", "int4", "int3", "int2")} | {"float8": "fp8", "float4": "fp4"}
_WEIGHTS = {
    **{"onnxruntime": Entrant("", "dense"), **_HOST},
    **{f"{name} weights": Entrant("", f"{kind}-weights", "host") for name, kind in _FEW_BITS.items()},
}
_INTEGER = {
    "onnxruntime": Entrant("", "dense"),
    "onnxruntime, int8": Entrant("", "onnxruntime-int8"),
    **_HOST,
    "int8": Entrant("", "int8", "host"),
    "80 % and int8": Entrant("", "sparse-80-int8", "host"),
    "int8 of onnxruntime's quantiser": Entrant("", "onnxruntime-int8", "host"),
    "dynamic int8 of onnxruntime's quantiser": Entrant("", "onnxruntime-int8-dynamic", "host"),
}
_INTEGER_WEB = {
    "onnxruntime": Entrant("", "dense"),
    "dense": Entrant("gossamer@node", "dense", "wasm"),
    "int8": Entrant("gossamer@node", "int8", "wasm"),
}
_INTEGER_ARM64 = {
    "onnxruntime": Entrant("", "dense"),
    "dense": Entrant("", "dense", "arm64-linux"),
    "int8": Entrant("", "int8", "arm64-linux-dotprod"),
    "int8 without dot product": Entrant("", "int8", "arm64-linux"),
}
_BOTH = {**_HOST, "wasm": Entrant("", "dense", "wasm")}
_COMPRESSIBLE = (*SINGLE_LAYERS, "mobilenet-v1", "resnet50")
_ALL = [
    Part("native", "Native, one thread", _NATIVE, _native, _TIMES),
    Part("threads", "Native, one and two threads", _HOST, _threads, _TIMES, ("mobilenet-v1", "resnet50")),
    Part("node", "WebAssembly in Node, one thread", _web("node"), _timed, _TIMES),
    Part("chromium", "WebAssembly in Chromium, one thread", _web("chromium"), _timed, _TIMES),
    Part("arm64", "AArch64, millions of instructions of one inference", _ARM64, _arm64, _COUNTS),
    Part("compressed", "Compressed weights, native, one thread", _COMPRESSED, _native, _TIMES, _COMPRESSIBLE),
    Part(
        "compressed-node",
        "Compressed weights, WebAssembly in Node, one thread",
        _COMPRESSED_WEB,
        _timed,
        _TIMES,
        _COMPRESSIBLE,
    ),
    Part(
        "weights", "Weights of few bits, native, one thread", _WEIGHTS, _native, _TIMES, tuple(SINGLE_LAYERS)
    ),
    Part("integer", "Integers, native, one thread", _INTEGER, _native, _TIMES),
    Part("integer-node", "Integers, WebAssembly in Node, one thread", _INTEGER_WEB, _timed, _TIMES),
    Part(
        "integer-arm64",
        "Integers, AArch64, millions of instructions of one inference",
        _INTEGER_ARM64,
        _arm64,
        _COUNTS,
    ),
    Part("sizes", "Compiling, code, memory", _BOTH, _sizes, {"value": "value"}),
]
PARTS = {part.name: part for part in _ALL}
