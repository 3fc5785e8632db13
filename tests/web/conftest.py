"""A toy artifact for WebAssembly, compiled from C, with the manifest that a build would write."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.runtime.node import node_available

HERE = Path(__file__).parent
ENTRY = "gossamer_entry_toy"
COMPILE = ["cc", "-target", "wasm32-freestanding", "-nostdlib", "-O2", "-msimd128", "-mbulk-memory", "-c"]
LINK = ["--no-entry", "--import-memory", "--export=__heap_base", "--export-if-defined=gossamer_weights"]
LINK += ["--stack-first", "-z", "stack-size=65536"]
LINK_TOY = [f"--export={ENTRY}"]
LINK_OPEN = ["--export=gossamer_entry_open", "--export=gossamer_sizes_open", "--export=__stack_pointer"]
LINK_OPEN += ["--max-memory=4294901760"]
HEAP_BASE = 65536 + 4096  # stack and data of the toy end before this


def compile_toy(out: Path, *flags: str, source: str = "toy.c", link: list[str] = LINK_TOY) -> None:
    pytest.importorskip("ziglang")
    zig = [sys.executable, "-m", "ziglang"]
    with tempfile.TemporaryDirectory() as folder:
        objects = f"{folder}/toy.o"
        subprocess.run([*zig, *COMPILE, *flags, str(HERE / source), "-o", objects], check=True, timeout=300)
        subprocess.run([*zig, "wasm-ld", *LINK, *link, objects, "-o", str(out)], check=True, timeout=300)


def weights() -> bytes:
    blob = np.zeros(32, dtype="<f4")
    blob[0:3] = (2, 3, 4)
    blob[16:19] = (10, 20, 30)
    return blob.tobytes()


def manifest(folder: Path, *, embedded: bool) -> dict[str, Any]:
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in sorted(folder.iterdir())
    }
    code = [
        {
            "role": "wasm",
            "file": path.name,
            "relaxed": "relaxed" in path.name,
            "heap_base": HEAP_BASE,
            "initial_pages": 2,
        }
        for path in sorted(folder.glob("*.wasm"))
    ]
    blob = weights()
    return {
        "format": "gossamer-artifact",
        "version": 2,
        "name": "toy",
        "gossamer": "0.1.0",
        "target": {
            "name": "wasm",
            "triple": "wasm32-unknown-unknown",
            "family": "wasm",
            "container": "wasm",
            "requires": [],
        },
        "entry": ENTRY,
        "threads": 1,
        "inputs": [
            {"name": "x", "dtype": "float32", "shape": [2, 3]},
            {"name": "n", "dtype": "int64", "shape": [2]},
        ],
        "outputs": [
            {"name": "y", "dtype": "float32", "shape": [2, 3]},
            {"name": "__proto__", "dtype": "int64", "shape": [3]},
        ],
        "arena_bytes": 64,
        "arena_bound_bytes": 24,
        "scratch_bytes": 0,
        "weights": {
            "file": None if embedded else "weights.bin",
            "bytes": len(blob),
            "sha256": hashlib.sha256(blob).hexdigest(),
            "tensors": [
                {"name": "w", "offset": 0, "bytes": 12, "dtype": "float32", "packing": "raw"},
                {"name": "b", "offset": 64, "bytes": 12, "dtype": "float32", "packing": "raw"},
            ],
        },
        "code": code,
        "layers": [],
        "steps": [],
        "files": files,
    }


def open_manifest(folder: Path) -> dict[str, Any]:
    """Of open.c, whose sizes a run brings."""
    symbols = [
        {"name": "n", "slot": 2, "least": 1, "most": None},
        {"name": "m", "slot": 3, "least": 1, "most": 8},
    ]
    open_sizes = {
        "version": 3,
        "name": "open",
        "entry": "gossamer_entry_open",
        "inputs": [
            {"name": "x", "dtype": "float32", "shape": ["n"], "slots": [2]},
            {"name": "k", "dtype": "int64", "shape": ["m", 1], "slots": [3, -1]},
        ],
        "outputs": [
            {"name": "y", "dtype": "float32", "shape": ["2*n"], "slots": [4]},
            {"name": "z", "dtype": "float32", "shape": ["z_size"], "slots": [5]},
        ],
        "table": {
            "function": "gossamer_sizes_open",
            "count": 6,
            "symbols": symbols,
            "guards": ["n must not be 13", "m must be at most 7"],
        },
        "arena_bytes": 0,
    }
    return {**manifest(folder, embedded=True), **open_sizes, "weights": NO_WEIGHTS}


NO_WEIGHTS: dict[str, Any] = {
    "file": None,
    "bytes": 0,
    "sha256": hashlib.sha256(b"").hexdigest(),
    "tensors": [],
}
TRAP = "if (x[1] > 1e30f && thread == threads - 1) __builtin_trap();"


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory, toy: Any) -> Path:
    """A folder of artifacts: `toy`; `embedded` whose weights are in its code; `crowd` and `crowd-embedded`;
    `open`, whose sizes a run brings.

    The crowds are y = x * w + 1 (see tests/conftest.py), computed by three threads unless a session is told
    otherwise; the last thread fails for x[0] = -2e30 and traps for x[1] = 2e30.
    """
    if reason := node_available():
        pytest.skip(reason)
    root = tmp_path_factory.mktemp("toys")
    for name, flags in (("toy", []), ("embedded", ["-DEMBED"])):
        folder = root / name
        folder.mkdir()
        compile_toy(folder / "model.simd.wasm", *flags)
        compile_toy(folder / "model.relaxed.wasm", *flags, "-mrelaxed-simd")
        if not flags:
            (folder / "weights.bin").write_bytes(weights())
        text = json.dumps(manifest(folder, embedded=bool(flags)), indent=1)
        (folder / "manifest.json").write_text(text, encoding="utf-8")
    folder = root / "open"
    folder.mkdir()
    compile_toy(folder / "model.simd.wasm", source="open.c", link=LINK_OPEN)
    (folder / "manifest.json").write_text(json.dumps(open_manifest(folder), indent=1), encoding="utf-8")
    for name, embed in (("crowd", False), ("crowd-embedded", True)):
        built = toy.artifact("wasm", extra=TRAP, threads=3, embed_weights=embed)
        shutil.copytree(built, root / name)
    return root
