"""Which real models compile: `python -m gossamer.tools.model_table FOLDER -o docs/models.md`.

Every .onnx of the folder is compiled for `host` and `wasm` by the command line, in a process of its own, and
compared with onnxruntime; a model that is refused stands there with the reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gossamer.passes.rounding import TOLERANCE
from gossamer.runtime.errors import OptionError

from .console import note
from .failing import run_alone
from .options import choose_output

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["command", "main", "open_shapes"]

_TARGETS = ("host", "wasm")
_LONGEST = 900  # seconds that one compilation may take
_HEAD = """# Real models

Each model is compiled for `host` and `wasm` and compared with onnxruntime on the same file and the same
random inputs. Errors are the largest difference of any output, in units of that output's spread (largest
minus smallest value); at most {tolerance:g} passes, or what changes of one unit in the inputs' last place
explain, where a model amplifies them. WebAssembly's error is the larger one of the two builds.
Dimensions without a size stay open: one artifact runs at any size, and was compared at three, as far as the
model takes so many. The second column names them. `make models-table` writes this page.

| model | open inputs | nodes | operators | host | wasm |
|---|---|---:|---:|---:|---:|
"""


@dataclass(frozen=True)
class _Row:
    model: str
    shapes: str
    nodes: int
    operators: int
    results: tuple[str, ...]  # per target: an error in spreads, or the refusal

    def text(self) -> str:
        cells = (self.model, self.shapes, str(self.nodes), str(self.operators), *self.results)
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def open_shapes(model: ir.Model) -> str:
    """The shapes of inputs that have dimensions without a size, as `ids: 1,seq`."""
    shown = [
        f"{value.name}: "
        + ",".join(str(d) if isinstance(d, int) else str(d.value or "?") for d in value.shape)
        for value in model.graph.inputs
        if not value.is_initializer()
        and value.shape is not None
        and any(not isinstance(d, int) for d in value.shape)
    ]
    return "; ".join(shown)


def _row(path: Path) -> _Row:
    from gossamer.passes.loading import load_model

    model = load_model(path)
    nodes = list(model.graph.all_nodes())
    results = tuple(_compile(path, target) for target in _TARGETS)
    return _Row(path.stem, open_shapes(model), len(nodes), len({node.op_type for node in nodes}), results)


def _compile(path: Path, target: str) -> str:
    """The worst error of any output, or why there is none."""
    with tempfile.TemporaryDirectory(prefix="gossamer-") as folder:
        words = ["compile", str(path), str(Path(folder) / "out"), "--target", target, "--json"]
        command = [sys.executable, "-P", "-m", "gossamer.tools.cli", *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST, check=False)
        except subprocess.TimeoutExpired:
            return f"no end after {_LONGEST} s"
    if done.returncode == 0:
        (artifact,) = json.loads(done.stdout)["artifacts"]
        return f"{max(float(check['worst']) for check in artifact['checks']):.1e}"
    if done.returncode < 0:
        return f"crashed (signal {-done.returncode})"
    lines = done.stderr.strip().splitlines() or ["no message"]
    return lines[-1].removeprefix("error: ").replace(f"{path}: ", "")


def command(
    folder: Path = typer.Argument(metavar="FOLDER", help="Where the .onnx files are."),
    output: Path | None = typer.Option(None, "-o", "--output", metavar="FILE.md"),
    only: list[str] = typer.Option([], "--only", metavar="NAME", help="These models, not all."),
) -> None:
    """Compile every model of a folder and write a table of the errors."""
    out = choose_output(output, None)
    files = [path for path in sorted(folder.glob("*.onnx")) if not only or path.stem in only]
    if not files:
        raise OptionError("no model is there", where=folder, expected="files NAME.onnx")
    rows = []
    for path in files:
        rows.append(_row(path))
        note(f"{path.stem}: " + ", ".join(rows[-1].results))
    text = _HEAD.format(tolerance=TOLERANCE) + "".join(row.text() for row in rows)
    from gossamer.passes.saving import written_whole

    with written_whole(out) as aside:
        aside.write_text(text, encoding="utf-8")


def main() -> int:
    """Run it as a command of its own; returns the exit code."""
    return run_alone(command)


if __name__ == "__main__":
    sys.exit(main())
