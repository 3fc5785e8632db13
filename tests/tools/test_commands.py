"""What each command does with good input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from ..tolerances import require_agreement
from .conftest import Run, tiny_proto

SHAPE = ["--input-shape", "x:2,12"]
PRUNE = ["--recipe", "sparse-80"]  # and all that the preset leaves alone: small, first, last, no convolution
for setting in (
    "kernels=all",
    "layers=[Gemm, MatMul]",
    "keep_first=false",
    "keep_last=false",
    "min_elements=0",
):
    PRUNE += ["--set", f"prune.{setting}"]


def test_convert_writes_a_model_that_onnx_accepts(run: Run, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    result = run("convert", tiny, "-o", out)
    assert result.code == 0
    assert "softmax" not in result.err.lower()
    onnx.checker.check_model(onnx.load(out))
    assert all(text in result.out for text in ("fold-constants", "error / spread", "y", "raw", str(out)))


def test_convert_reports_as_json(run: Run, tiny: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "out.onnx", tmp_path / "report.json"
    printed = run("convert", tiny, out, "--recipe", "default", "--report", report, "--json").data
    kept = json.loads(report.read_text())
    assert printed["verified"] is True
    assert {check["output"] for check in kept["checks"]} == {"y", "raw"}
    assert kept["checks"] == printed["checks"]
    assert [entry["name"] for entry in kept["passes"]] == [entry["name"] for entry in printed["passes"]]


def test_convert_reports_as_html(run: Run, tiny: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    assert run("convert", tiny, tmp_path / "out.onnx", "--report", report).code == 0
    assert report.read_text().startswith("<!doctype html>")


def test_convert_without_verification_says_so(run: Run, tiny: Path, tmp_path: Path) -> None:
    result = run("convert", tiny, tmp_path / "out.onnx", "--no-verify")
    assert result.code == 0
    assert "not verified" in result.err


def test_a_lossy_recipe_is_reported_and_fails_only_beyond_the_bound(
    run: Run, tiny: Path, tmp_path: Path
) -> None:
    out, report = tmp_path / "out.onnx", tmp_path / "report.json"
    words = ["convert", tiny, out, *PRUNE, "--report", report]
    result = run(*words, "--max-error", "1e-6")
    assert result.code == 1
    assert "differs from its source" in result.err
    assert result.err.count("\n") == 1
    assert not out.exists()
    worst = max(check["relative"] for check in json.loads(report.read_text())["checks"])
    assert worst > 1e-6
    assert run(*words, "--max-error", 2 * worst).code == 0
    assert run(*words).code == 0


def test_calibration_samples_are_what_both_are_run_on(run: Run, tiny: Path, tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    samples.mkdir()
    np.savez(samples / "0.npz", x=np.zeros((5, 12), np.float32))
    result = run("convert", tiny, tmp_path / "out.onnx", "--calibrate", samples, "--json")
    assert result.code == 0
    (raw,) = [check for check in result.data["checks"] if check["output"] == "raw"]
    assert raw["max_abs"] == 0


@pytest.mark.parametrize("target", ["host", "wasm"])
def test_compile_builds_what_agrees_with_onnxruntime(
    run: Run, artifacts: Path, tiny: Path, target: str
) -> None:
    result = run("compare", tiny, artifacts / target, "--max-error", "1e-4", "--json")
    assert result.code == 0
    assert {row["name"] for row in result.data["outputs"]} == {"y", "raw"}
    assert all(row["shape"] == [2, 8] for row in result.data["outputs"])


def test_compile_prints_the_error_of_every_output(run: Run, tiny: Path, tmp_path: Path) -> None:
    result = run("compile", tiny, "-o", tmp_path / "a", *SHAPE)
    assert result.code == 0
    assert all(text in result.out for text in ("host", "in process", "raw", "error / spread"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_compile_says_which_target_was_not_run(run: Run, tiny: Path, tmp_path: Path) -> None:
    result = run("compile", tiny, tmp_path / "a", "--target", "arm64-apple", *SHAPE)
    assert result.code == 0
    assert "arm64-apple: not run: this machine cannot run it" in result.err
    assert (tmp_path / "a" / "libmodel.a").is_file()


def test_compile_without_verification_says_so(run: Run, tiny: Path, tmp_path: Path) -> None:
    result = run("compile", tiny, tmp_path / "a", "--no-verify", *SHAPE)
    assert result.code == 0
    assert "not verified" in result.err


def test_compile_replaces_an_earlier_artifact_and_nothing_else(run: Run, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "a"
    words = ["compile", tiny, out, "--no-verify", *SHAPE]
    assert run(*words).code == 0
    assert run(*words, "--embed-weights").code == 0
    assert not (out / "weights.bin").exists()
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    assert run("compile", tiny, foreign, "--no-verify", *SHAPE).code == 2
    assert (foreign / "thesis.txt").read_text() == "years of work"


def test_run_keeps_the_outputs(run: Run, artifacts: Path, tmp_path: Path) -> None:
    feeds, out = tmp_path / "in.npz", tmp_path / "out.npz"
    np.savez(feeds, x=np.ones((2, 12), np.float32))
    result = run("run", artifacts / "host", "--inputs", feeds, "-o", out, "--json")
    with np.load(out) as kept:
        assert kept["y"].shape == (2, 8)
        require_agreement(kept["y"].sum(axis=1), np.ones_like(kept["y"][:, 0]), "Softmax")
        (row,) = [row for row in result.data["outputs"] if row["name"] == "y"]
        assert row["max"] == pytest.approx(float(kept["y"].max()))


def test_random_inputs_are_the_same_for_the_same_seed(run: Run, artifacts: Path) -> None:
    words = ["run", artifacts / "host", "--json", "--seed"]
    assert run(*words, 1).out == run(*words, 1).out
    assert run(*words, 1).data["outputs"] != run(*words, 2).data["outputs"]


def test_inspect_a_model_counts_bytes_and_macs(run: Run, tiny: Path) -> None:
    data = run("inspect", tiny, "--input-shape", "x:2,12", "--json").data
    hidden, _, product, _ = data["layers"]
    assert (hidden["macs"], product["macs"]) == (2 * 16 * 12, 2 * 16 * 8)
    assert hidden["bytes"] == 4 * (16 * 12 + 16)
    assert product["shape"] == [2, 8]
    assert data["totals"]["weight_bytes"] == sum(
        init.ByteSize() > 0 and len(init.raw_data) for init in inits()
    )


def inits() -> list[onnx.TensorProto]:
    return list(tiny_proto().graph.initializer)


def test_inspect_says_that_shapes_are_missing(run: Run, tiny: Path) -> None:
    result = run("inspect", tiny)
    assert result.code == 0
    assert "give --input-shape" in result.out


def test_inspect_recognises_formats(run: Run, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "sparse.onnx"
    assert run("convert", tiny, out, *PRUNE).code == 0
    rows = run("inspect", out, "--json").data["layers"]
    (hidden,) = [row for row in rows if row["operator"] == "Gemm"]
    assert hidden["format"] == "block-sparse 4x1"
    assert hidden["sparsity"] >= 0.75
    assert hidden["bits"] < 16
    assert not any("Decode" in row["operator"] for row in rows)


def test_inspect_an_artifact(run: Run, artifacts: Path) -> None:
    data = run("inspect", artifacts / "wasm", "--json").data
    assert data["totals"]["target"] == "wasm"
    assert data["totals"]["macs"] == 2 * 16 * 12 + 2 * 16 * 8
    assert "weights.bin" in data["totals"]["files"]
    assert run("inspect", artifacts / "wasm").code == 0


def test_bench_gives_ratios_to_the_baseline(run: Run, artifacts: Path, tiny: Path) -> None:
    words = [artifacts / "host", artifacts / "wasm", "--against", "onnxruntime", "--model", tiny]
    data = run("bench", *words, "--rounds", 1, "--json").data
    assert data["baseline"] == str(tiny)
    engines = [timing["engine"] for timing in data["timings"]]
    assert engines == ["gossamer", "gossamer", "onnxruntime"]
    assert data["timings"][2]["ratio"] == 1
    assert all(t["p10_ms"] <= t["median_ms"] <= t["p90_ms"] for t in data["timings"])


@pytest.mark.parametrize("what", ["targets", "passes", "recipes", "formats", "kernels", "models"])
def test_list_names_and_summarises(run: Run, what: str) -> None:
    rows = run("list", what, "--json").data
    assert rows
    assert all(row["name"] and row["summary"] for row in rows)
    assert rows[0]["name"] in run("list", what).out
