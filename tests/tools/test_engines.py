"""Engines beside ours compute the same, one at a time, and say what to install where they are absent."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.runtime.errors import InputError, JobError, OptionError
from gossamer.tools.benching import Worker, bench
from gossamer.tools.engines import Engine, SelfTimed, engine_names, make_feeds, open_engine, parse_choice

from .conftest import Run

ONNX = ["openvino", "openvino@bfloat16", "onnxruntime-web", "onnxruntime-web@chromium"]
OURS = ["gossamer", "gossamer@node", "gossamer@chromium"]
SHAPES = {"x": (2, 12)}


def opened(text: str, threads: int = 1) -> Engine:
    """The engine, or a skip that says what is missing."""
    try:
        return open_engine(text, threads, SHAPES)
    except OptionError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("text", "engine", "variant", "path"),
    [
        ("m.onnx", "onnxruntime", "float32", "m.onnx"),
        ("m.tflite", "litert", "xnnpack", "m.tflite"),
        ("openvino:a b/m.onnx", "openvino", "float32", "a b/m.onnx"),
        ("openvino@bfloat16:m.onnx", "openvino", "bfloat16", "m.onnx"),
        ("gossamer@node:out/wasm", "gossamer", "node", "out/wasm"),
        ("onnxruntime-web:c:/m.onnx", "onnxruntime-web", "node", "c:/m.onnx"),
    ],
)
def test_a_text_chooses_engine_variant_and_path(text: str, engine: str, variant: str, path: str) -> None:
    choice = parse_choice(text)
    assert (choice.engine, choice.variant, choice.path) == (engine, variant, Path(path))
    assert parse_choice(str(choice)) == choice


def test_a_folder_is_ours_and_an_existing_file_keeps_its_colon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fast:m.onnx").touch()
    assert parse_choice(tmp_path).engine == "gossamer"
    assert parse_choice("fast:m.onnx").path == Path("fast:m.onnx")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("openvin:m.onnx", "did you mean openvino"),
        ("openvino@int3:m.onnx", "float32 or bfloat16"),
        ("gossamer@nod:out", "no such variant"),
    ],
)
def test_wrong_choices_are_one_line(run: Run, text: str, words: str) -> None:
    outcome = run("bench", text)
    assert outcome.code == 2
    assert words in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("engine", ONNX)
def test_engines_for_onnx_agree_with_onnxruntime(tiny: Path, engine: str) -> None:
    reference, peer = open_engine(tiny, 1, SHAPES), opened(f"{engine}:{tiny}")
    feeds = make_feeds(reference.inputs, None)
    assert peer.inputs == reference.inputs
    assert peer.output_names == reference.output_names
    tolerance = 5e-2 if "bfloat16" in engine else 1e-5
    for got, expected in zip(peer.run(feeds), reference.run(feeds), strict=True):
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("engine", OURS)
def test_our_code_computes_the_same_wherever_it_runs(
    tiny: Path, artifacts: Path, engine: str, threads: int
) -> None:
    reference = open_engine(tiny, 1, SHAPES)
    ours = opened(f"{engine}:{artifacts / ('host' if engine == 'gossamer' else 'wasm')}", threads)
    feeds = make_feeds(reference.inputs, None)
    for got, expected in zip(ours.run(feeds), reference.run(feeds), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.fixture
def tflite(tmp_path: Path) -> Path:
    """A LiteRT model that adds the numbers 0 to 23, made with LiteRT's own schema."""
    schema: Any = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    numbers = np.arange(24, dtype=np.float32)
    model, code, graph, add = schema.ModelT(), schema.OperatorCodeT(), schema.SubGraphT(), schema.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    code.version = 1
    add.opcodeIndex, add.inputs, add.outputs = 0, [0, 1], [2]
    add.builtinOptionsType, add.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
    for name in ("x", "w", "y"):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, [2, 12], schema.TensorType.FLOAT32
        tensor.buffer = int(name == "w")
        graph.tensors = [*(graph.tensors or []), tensor]
    graph.name, graph.inputs, graph.outputs, graph.operators = "main", [0], [2], [add]
    buffers = [schema.BufferT(), schema.BufferT()]
    buffers[1].data = numbers.view(np.uint8)
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], buffers
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "add.tflite"
    path.write_bytes(bytes(builder.Output()))
    return path


@pytest.mark.parametrize("engine", ["litert", "litertjs"])
def test_litert_runs_its_own_models(tflite: Path, engine: str) -> None:
    peer = opened(f"{engine}:{tflite}")
    assert [(i.name, i.dtype, i.shape) for i in peer.inputs] == [("x", "float32", (2, 12))]
    feeds = make_feeds(peer.inputs, None)
    expected = feeds["x"] + np.arange(24, dtype=np.float32).reshape(2, 12)
    np.testing.assert_allclose(peer.run(feeds)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("engine", ["litert", "litertjs"])
def test_litert_refuses_other_files(tiny: Path, tmp_path: Path, engine: str) -> None:
    with pytest.raises(InputError, match="is no LiteRT model"):
        open_engine(f"{engine}:{tiny}")
    with pytest.raises(InputError, match="no such file"):
        open_engine(f"{engine}:{tmp_path / 'absent.tflite'}")


@pytest.mark.parametrize("python", ["/no/such/python", sys.executable, None])
def test_deepsparse_wants_a_python_that_has_it(tiny: Path, python: str | None) -> None:
    text = f"deepsparse@{python}:{tiny}" if python else f"deepsparse:{tiny}"
    with pytest.raises(OptionError, match=r"pip install deepsparse==1\.8\.0"):
        open_engine(text)


FAKE = """
import onnx, onnxruntime

class Engine:
    fraction_of_supported_ops = 1.0

    def __init__(self, model, batch_size, num_cores):
        assert onnx.load(model).ir_version <= 9
        self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.input_names = [i.name for i in self.session.get_inputs()]
        self.output_names = [o.name for o in self.session.get_outputs()]

    def run(self, inputs, val_inp):
        return self.session.run(None, dict(zip(self.input_names, inputs)))
"""


def test_deepsparse_is_asked_as_its_interface_wants(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "deepsparse").mkdir()
    (tmp_path / "deepsparse" / "__init__.py").touch()
    (tmp_path / "deepsparse" / "engine.py").write_text(FAKE)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    reference, peer = open_engine(tiny, 1, SHAPES), open_engine(f"deepsparse@{python}:{tiny}", 1, SHAPES)
    feeds = make_feeds(reference.inputs, None)
    for got, expected in zip(peer.run(feeds), reference.run(feeds), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert isinstance(peer, SelfTimed)
    assert len(peer.turn(feeds, 0.01)) >= 3


@pytest.mark.parametrize("engine", ["gossamer@node", "gossamer@chromium"])
def test_engines_elsewhere_measure_by_themselves(artifacts: Path, engine: str) -> None:
    ours = opened(f"{engine}:{artifacts / 'wasm'}")
    assert isinstance(ours, SelfTimed)
    times = ours.turn(make_feeds(ours.inputs, None), 0.01)
    assert len(times) >= 3
    assert all(time >= 0 for time in times)


@pytest.mark.parametrize("engine", ["gossamer@node", "gossamer@chromium"])
def test_our_webassembly_takes_threads(artifacts: Path, engine: str) -> None:
    alone, both = (opened(f"{engine}:{artifacts / 'wasm'}", threads) for threads in (1, 2))
    feeds = make_feeds(alone.inputs, None)
    for got, expected in zip(both.run(feeds), alone.run(feeds), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_what_a_page_cannot_open_is_one_line(tmp_path: Path, tiny: Path) -> None:
    opened(f"onnxruntime-web:{tiny}")
    with pytest.raises(InputError):
        open_engine(f"onnxruntime-web:{tmp_path / 'absent.onnx'}")


@pytest.mark.parametrize(
    ("text", "module", "extra"),
    [("openvino:{}", "openvino", "openvino"), ("litert:{}", "ai_edge_litert.interpreter", "litert")],
)
def test_an_engine_that_is_not_installed_names_its_extra(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "m.tflite").write_bytes(b"\0\0\0\0TFL3")
    model = tmp_path / "m.tflite" if extra == "litert" else tiny
    with pytest.raises(OptionError, match=rf"pip install 'gossamer\[{extra}\]'"):
        open_engine(text.format(model))


@pytest.mark.parametrize("engine", ["onnxruntime-web", "litertjs"])
def test_an_engine_from_npm_that_is_not_installed_names_the_command(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setattr("gossamer.tools.javascript.PACKAGES", tmp_path)
    (tmp_path / "m.tflite").write_bytes(b"\0\0\0\0TFL3")
    with pytest.raises(OptionError, match="npm ci --prefix"):
        open_engine(f"{engine}:{tmp_path / 'm.tflite' if engine == 'litertjs' else tiny}")


def test_a_native_artifact_does_not_run_in_node(artifacts: Path) -> None:
    with pytest.raises(OptionError, match="only WebAssembly artifacts"):
        open_engine(f"gossamer@node:{artifacts / 'host'}")


def test_a_dead_engine_is_told(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(f"gossamer@node:{artifacts / 'wasm'}")
    monkeypatch.setattr("gossamer.tools.javascript.node_command", lambda: [sys.executable, "-c", "0", "#"])
    with pytest.raises(JobError, match="process died"):
        open_engine(f"gossamer@node:{artifacts / 'wasm'}")


def state_of(worker: Worker) -> str:
    """How Linux sees the worker's process: "T" is stopped."""
    status = Path(f"/proc/{worker.process}/stat").read_text()
    return status.rpartition(")")[2].split()[0]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_an_engine_is_stopped_between_its_turns(artifacts: Path) -> None:
    with Worker(artifacts / "host") as worker:
        assert state_of(worker) == "T"
        assert worker.turn(0.01)
        assert state_of(worker) == "T"
    assert not Path(f"/proc/{worker.process}").exists()


def test_engines_are_measured_side_by_side(tiny: Path, artifacts: Path) -> None:
    opened(f"gossamer@node:{artifacts / 'wasm'}")
    models: list[str | Path] = [tiny, artifacts / "host", f"gossamer@node:{artifacts / 'wasm'}"]
    timings = bench(models, rounds=2, turn_seconds=0.01, shapes=SHAPES)
    assert [t.engine for t in timings] == ["onnxruntime", "gossamer", "gossamer@node"]
    assert timings[0].ratio == 1
    assert all(t.runs >= 6 for t in timings)


def test_against_takes_any_engine(run: Run, tiny: Path, artifacts: Path) -> None:
    words = [artifacts / "host", artifacts / "wasm", "--against", "gossamer", "--rounds", 1, "--json"]
    assert run("bench", *words).data["baseline"] == str(artifacts / "host")
    assert "needs a model" in run("bench", artifacts / "host", "--against", "openvino").err
    assert "did you mean" in run("bench", artifacts / "host", "--against", "openvin").err


def test_every_engine_is_listed_with_what_it_is(run: Run) -> None:
    rows = run("list", "engines", "--json").data
    assert [row["name"] for row in rows] == engine_names()
    assert all(row["summary"] for row in rows)
