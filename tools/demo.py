"""`make demo`: MobileNet-v1 from PyTorch to the host, ARM and WebAssembly, measured beside onnxruntime."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.passes.rounding import TOLERANCE
from gossamer.runtime.errors import JobError
from gossamer.runtime.node import node_available, run_in_node

from .benching import Contestant, Worker, interleave
from .checking import check_outputs
from .console import Column, format_bytes, format_error, print_table, show_progress
from .engines import make_feeds, open_engine
from .failing import guarded, report_failure

__all__ = ["main"]

MODEL, RECIPE, TARGETS = "mobilenet-v1", "sparse-80", ("host", "arm64-linux", "wasm")
ROUNDS, TURN_SECONDS = 6, 0.5
FILES = {  # what a device fetches to run the model
    "host": ("model.so", "weights.bin"),
    "arm64-linux": ("model.so", "weights.bin"),
    "wasm": ("model.relaxed.wasm", "weights.bin", "gossamer.js", "manifest.json"),
}
Row = dict[str, Any]


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


_COLUMNS = [
    Column("target", "target"),
    Column("where", "run by"),
    Column("bytes", "download", format_bytes, right=True),
    Column("gzip", "gzipped", format_bytes, right=True),
    Column("max_abs", "largest error", format_error, right=True),
    Column("relative", "error / spread", format_error, right=True),
    Column("ms", "median ms", _milliseconds, right=True),
    Column("onnxruntime_ms", "onnxruntime ms", _milliseconds, right=True),
    Column("ratio", "ratio", _milliseconds, right=True),
]


class _Node:
    """The wasm artifact in Node, as the benchmark's turns want it."""

    name = "Node"

    def __init__(self, folder: Path) -> None:
        engine = open_engine(folder)
        self._folder = folder
        self._feeds = [make_feeds(engine.inputs, None)[tensor.name] for tensor in engine.inputs]
        self._names = engine.output_names
        self.variant = ""
        self.outputs: dict[str, np.ndarray[Any, Any]] = {}

    def turn(self, seconds: float) -> list[int]:
        """One start of Node; the first run, which compiles, is left out."""
        result = run_in_node(self._folder, self._feeds, repeat=max(4, int(seconds * 20)))
        self.variant = result.variant
        self.outputs = dict(zip(self._names, result.outputs, strict=True))
        return [int(ms * 1e6) for ms in result.ms[1:]]


def main() -> int:
    """Run the demo in `demo-out/`; the exit code is 1 where an error is too large."""
    try:
        with guarded(debug=False):
            _demo(Path("demo-out"))
    except BaseException as error:
        return report_failure(error, debug="--debug" in sys.argv)
    return 0


def _demo(out: Path) -> None:
    out.mkdir(exist_ok=True)
    source, small, built = out / f"{MODEL}.onnx", out / f"{MODEL}-{RECIPE}.onnx", out / "artifacts"
    _gossamer("export", MODEL, "-o", source)
    _gossamer("convert", source, "-o", small, "--recipe", RECIPE, "--json")
    printed = _gossamer("compile", small, "-o", built, "--target", ",".join(TARGETS), "--json")
    rows = [_model_row(small), *_artifact_rows(json.loads(printed)["artifacts"])]
    _measure(rows, small, built)
    print()
    print_table(_COLUMNS, rows, title=f"{MODEL}, {RECIPE}, one thread; errors against onnxruntime")
    print(f"onnxruntime runs the same converted file, in turns with the others. Everything lies in {out}/.")
    (out / "demo.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    _require(rows)


def _gossamer(*words: object) -> str:
    """Run one command of ours, show it and how long it took; what it printed."""
    texts = [str(word) for word in words]
    print(f"$ gossamer {' '.join(text for text in texts if text != '--json')}", flush=True)
    start = time.monotonic()
    command = [sys.executable, "-P", "-m", "gossamer.tools.cli", *texts]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise JobError(f"gossamer {texts[0]} failed", got=f"exit code {done.returncode}")
    print(f"  {time.monotonic() - start:.0f} s", flush=True)
    return done.stdout


def _sizes(paths: Sequence[Path]) -> Row:
    contents = [path.read_bytes() for path in paths if path.exists()]
    return {"bytes": sum(map(len, contents)), "gzip": sum(len(gzip.compress(c, 9)) for c in contents)}


def _model_row(model: Path) -> Row:
    return {"target": "(the .onnx)", "where": "onnxruntime", **_sizes([model])}


def _artifact_rows(artifacts: Sequence[Row]) -> Iterator[Row]:
    for artifact in artifacts:
        folder = Path(artifact["path"])
        sizes = _sizes([folder / name for name in FILES[artifact["target"]]])
        for check in artifact["checks"]:
            worst: Row = max(check["errors"], key=lambda row: row["relative"], default={})
            yield {
                "target": artifact["target"],
                "where": check["where"] or f"not run: {check['reason']}",
                "max_abs": worst.get("max_abs"),
                "relative": worst.get("relative"),
                **sizes,
            }


def _measure(rows: list[Row], model: Path, built: Path) -> None:
    """Time everything that runs here without emulation, and put the medians into `rows`."""
    contestants: dict[str, Contestant] = {}
    node = _Node(built / "wasm") if node_available() is None else None
    with ExitStack() as stack, show_progress() as progress:
        contestants["onnxruntime"] = stack.enter_context(Worker(model))
        contestants["in process"] = stack.enter_context(Worker(built / "host"))
        contestants["wasmtime (relaxed)"] = stack.enter_context(Worker(built / "wasm"))
        if node is not None:
            contestants["Node"] = node
        print(f"timing {', '.join(contestants)} in turns", flush=True)
        times = interleave(list(contestants.values()), ROUNDS, TURN_SECONDS, progress)
    if node is not None:
        rows.append(_node_row(node, model, rows))
    medians = {name: float(np.median(t)) / 1e6 for name, t in zip(contestants, times, strict=True)}
    for row in rows:
        ours = medians.get("Node" if row["where"].startswith("Node") else row["where"])
        if ours is not None:
            theirs = medians["onnxruntime"]
            row |= {"ms": ours, "onnxruntime_ms": theirs, "ratio": ours / theirs}


def _node_row(node: _Node, model: Path, rows: Sequence[Row]) -> Row:
    engine = open_engine(model)
    outputs = engine.run(make_feeds(engine.inputs, None))
    errors = check_outputs(dict(zip(engine.output_names, outputs, strict=True)), node.outputs)
    worst = max(errors, key=lambda error: float(error["relative"]))
    sizes = next({k: row[k] for k in ("bytes", "gzip")} for row in rows if row["target"] == "wasm")
    errors_of_worst = {key: worst[key] for key in ("max_abs", "relative")}
    return {"target": "wasm", "where": f"Node ({node.variant})", **errors_of_worst, **sizes}


def _require(rows: Sequence[Row]) -> None:
    for row in rows:
        error = row.get("relative")
        if error is not None and not error <= TOLERANCE:
            raise JobError("an error is too large", where=row["where"], expected=TOLERANCE, got=error)


if __name__ == "__main__":
    sys.exit(main())
