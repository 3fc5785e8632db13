"""Artifacts run in Node from Python: outputs, variants, times, and each error by its class."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from gossamer.runtime import node
from gossamer.runtime.errors import ArtifactError, FeedError, JobError
from gossamer.runtime.node import run_in_node

X = np.arange(6, dtype=np.float32).reshape(2, 3)
N = np.array([1, 2**40], dtype=np.int64)


def expected() -> np.ndarray:
    return X * np.array([2, 3, 4], np.float32) + np.array([10, 20, 30], np.float32)


@pytest.mark.parametrize("name", ["toy", "embedded"])
@pytest.mark.parametrize("variant", [None, "relaxed", "simd"])
def test_outputs_are_those_of_the_model(toys: Path, name: str, variant: str | None) -> None:
    result = run_in_node(toys / name, [X, N], variant=variant)
    assert result.variant == (variant or "relaxed")
    y, counted = result.outputs
    np.testing.assert_array_equal(y, expected())
    assert y.dtype == np.float32
    np.testing.assert_array_equal(
        counted, [2, 2**40 + 1, 1]
    )  # the last element counts runs: outputs are of the first
    assert counted.dtype == np.int64


MODEL = """
<ir_version: 10, opset_import: ["": 21]>
shared (float[1, 3, 17, 19] x) => (float[1, 10] y) {
  [first] a = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w0)
  [act] b = Relu (a)
  [deep] c = Conv <group = 16, pads = [1, 1, 1, 1]> (b, w1)
  [point] d = Conv (c, w2)
  [pool] e = GlobalAveragePool (d)
  [flat] f = Flatten (e)
  [out] g = Gemm (f, w3)
  [soft] y = Softmax (g)
}
"""
SHAPES = {"w0": (16, 3, 3, 3), "w1": (16, 1, 3, 3), "w2": (24, 16, 1, 1), "w3": (24, 10)}


def test_compiled_kernels_share_their_work_in_shared_memory(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("tvm")
    from gossamer.tools.compiling import compile

    if reason := node.node_available():
        pytest.skip(reason)
    proto, rng = onnx.parser.parse_model(MODEL), np.random.default_rng(0)
    for name, shape in SHAPES.items():
        array = rng.standard_normal(shape, dtype=np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    artifact = compile(proto, "wasm", tmp_path / "artifact", threads=4)
    x = rng.standard_normal((1, 3, 17, 19), dtype=np.float32)
    expected = run_in_node(artifact.path, [x]).outputs[0]
    for threads in (2, 3, 4):
        result = run_in_node(artifact.path, [x], repeat=20, threads=threads)
        np.testing.assert_array_equal(result.outputs[0], expected)


def test_every_run_is_timed_and_the_first_apart(toys: Path) -> None:
    result = run_in_node(toys / "toy", [X, N], repeat=5)
    assert len(result.ms) == 5
    assert result.ms[0] == result.first_ms
    assert min(*result.ms, result.load_ms) >= 0


def test_inputs_in_other_memory_orders_are_taken(toys: Path) -> None:
    result = run_in_node(toys / "toy", [np.asfortranarray(X), N.astype(">i8")])
    np.testing.assert_array_equal(result.outputs[0], expected())
    np.testing.assert_array_equal(result.outputs[1][:2], N + 1)


@pytest.mark.parametrize(("count", "got"), [(4, 16), (7, 28), (0, 0)])
def test_a_feed_of_the_wrong_size_names_the_input(toys: Path, count: int, got: int) -> None:
    line = rf'input "x": wrong number of bytes for float32 \[2,3\]; expected 24; got {got}$'
    with pytest.raises(FeedError, match=line):
        run_in_node(toys / "toy", [np.zeros(count, np.float32), N])


def test_a_missing_feed_is_one_line(toys: Path) -> None:
    with pytest.raises(JobError, match=r"1\.bin"):
        run_in_node(toys / "toy", [X])


def test_altered_weights_are_refused(toys: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(toys / "toy", tmp_path / "altered")
    blob = bytearray((folder / "weights.bin").read_bytes())
    blob[3] ^= 1
    (folder / "weights.bin").write_bytes(blob)
    with pytest.raises(ArtifactError, match=r"weights\.bin: wrong SHA-256"):
        run_in_node(folder, [X, N])


def test_a_broken_manifest_is_refused(toys: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(toys / "toy", tmp_path / "broken")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["arena_bytes"] = -1
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"manifest\.json: field arena_bytes is wrong; .*got -1"):
        run_in_node(folder, [X, N])


def test_a_model_that_fails_is_a_failed_job(toys: Path) -> None:
    with pytest.raises(JobError, match="the model's code failed; expected 0; got 7"):
        run_in_node(toys / "toy", [np.full_like(X, np.nan), N])


def test_an_unknown_variant_is_refused(toys: Path) -> None:
    with pytest.raises(JobError, match='expected "relaxed" or "simd"; got "fast"'):
        run_in_node(toys / "toy", [X, N], variant="fast")


def test_a_run_that_takes_too_long_is_ended(toys: Path) -> None:
    with pytest.raises(JobError, match="took too long"):
        run_in_node(toys / "toy", [X, N], repeat=10**9, timeout=1.5)


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        (None, "not installed"),
        ("v18.19.1", "too old: v18.19.1"),
        ("v20.15.0", "too old"),
        ("nonsense", "too old"),
    ],
)
def test_without_a_fit_node_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, version: str | None, reason: str
) -> None:
    monkeypatch.setattr(node, "_version", lambda *arguments: version)
    node._found.cache_clear()
    try:
        assert reason in (node.node_available() or "")
        with pytest.raises(JobError, match=reason):
            node.node_command()
    finally:
        node._found.cache_clear()


@pytest.mark.parametrize(
    ("version", "accepted", "flagged"),
    [
        ("v20.20.2", True, True),
        ("v20.20.2", False, False),
        ("v22.3.0", True, False),
        ("v24.0.0", False, False),
    ],
)
def test_relaxed_simd_is_switched_on_where_it_is_an_experiment(
    monkeypatch: pytest.MonkeyPatch, version: str, accepted: bool, flagged: bool
) -> None:
    monkeypatch.setattr(node, "_version", lambda *arguments: version if accepted or not arguments else None)
    node._found.cache_clear()
    try:
        assert (node._RELAXED in node.node_command()) == flagged
    finally:
        node._found.cache_clear()


def test_compiled_models_run_at_any_size(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("tvm")
    from gossamer.tools.compiling import compile

    if reason := node.node_available():
        pytest.skip(reason)
    head = '<ir_version: 10, opset_import: ["": 21]>'
    text = f"{head} open (float[n, m] x) => (float[m, n] y) {{ a = Transpose (x) y = Exp (a) }}"
    folder = tmp_path / "artifact"
    compile(onnx.parser.parse_model(text), "wasm", out=folder, verify=False)
    for n, m, threads in ((1, 1, 1), (3, 200, 1), (65, 7, 3)):
        x = np.random.default_rng(n).standard_normal((n, m), dtype=np.float32)
        (y,) = run_in_node(folder, [x], threads=threads).outputs
        np.testing.assert_allclose(y, np.exp(x.T), rtol=1e-5)
