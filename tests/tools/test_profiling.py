"""`gossamer bench --profile`: every kernel of an artifact, with its work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gossamer.runtime.node import node_available


@pytest.mark.parametrize(("target", "engine"), [("host", "native"), ("wasm", "wasmtime"), ("wasm", "node")])
def test_every_kernel_is_listed_with_layer_time_and_work(
    run: Any, artifacts: Path, target: str, engine: str
) -> None:
    if engine == "node" and (reason := node_available()):
        pytest.skip(reason)
    place = "gossamer@node:" if engine == "node" else ""
    done = run("bench", "--profile", f"{place}{artifacts / target}", "--json")
    assert done.code == 0, done.err
    found = done.data
    assert found["engine"] == engine
    assert found["threads"] == 1
    layers = [name for step in found["steps"] for name in step["layers"]]
    assert {"hidden", "act", "out", "squash", "output 'y'"} <= set(layers)
    hidden = next(step for step in found["steps"] if "hidden" in step["layers"] and step["gflops"])
    assert hidden["kernel"] == "gemm"
    assert hidden["shape"] == [2, 16]
    assert hidden["tile"]
    assert hidden["peak_share"] == pytest.approx(hidden["gflops"] / found["peak_gflops"])
    assert hidden["gflops"] == pytest.approx(2e-6 * 2 * 12 * 16 / hidden["ms"])
    assert all(step["gbs"] for step in found["steps"] if step["gflops"] is None)
    assert sum(step["ms"] for step in found["steps"]) == pytest.approx(found["ms"])
    assert sum(step["share"] for step in found["steps"]) == pytest.approx(1)
    families = found["families"]
    assert sum(row["steps"] for row in families) == len(found["steps"])
    assert sum(row["ms"] for row in families) == pytest.approx(found["ms"])


def test_the_tables_name_kernels_and_the_peak(run: Any, artifacts: Path) -> None:
    done = run("bench", "--profile", artifacts / "host", "--threads", "2")
    assert done.code == 0, done.err
    assert "hidden +1" in done.out
    assert "2x16" in done.out
    assert "GFLOP/s" in done.err
    assert "threads 2" in done.err


def test_only_one_artifact_can_be_profiled(run: Any, tiny: Path, artifacts: Path) -> None:
    for paths in ([tiny], [artifacts / "host", artifacts / "wasm"]):
        done = run("bench", "--profile", *paths)
        assert done.code == 2
        assert "one artifact is wanted" in done.err


def test_what_cannot_be_profiled_is_told(run: Any, artifacts: Path) -> None:
    done = run("bench", "--profile", f"gossamer@chromium:{artifacts / 'wasm'}")
    assert done.code == 2
    assert "in process or in Node" in done.err
    if node_available() is None:
        done = run("bench", "--profile", f"gossamer@node:{artifacts / 'wasm'}", "--threads", "2")
        assert done.code == 2
        assert "one thread" in done.err
