"""Bad input through the command line: one clear line, the right exit code, nothing half-written."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from gossamer.tools.cli import main

HEAD = '<ir_version: 10, opset_import: ["": 21]>'
WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs one command line in this process."""

    def call(*words: object) -> Outcome:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


def refused(outcome: Outcome, *texts: str, code: int = 2) -> None:
    """One line on stderr that holds every text, nothing on stdout."""
    assert outcome.err.startswith("error: "), outcome.err
    assert outcome.err.count("\n") == 1, outcome.err
    for text in texts:
        assert text in outcome.err, outcome.err
    assert (outcome.code, outcome.out) == (code, "")


def product(batch: str = "2") -> onnx.ModelProto:
    """y = x · w."""
    text = f"{HEAD} g (float[{batch}, 3] x) => (float[{batch}, 4] y) {{ [product] y = MatMul (x, w) }}"
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(WEIGHT, "w"))
    return proto


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A sound model in a folder of its own."""
    folder = tmp_path / "in"
    folder.mkdir()
    return written(folder / "model.onnx", product())


def written(path: Path, proto: onnx.ModelProto) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """A path for output; at the end nothing may lie there, nor beside it."""
    folder = tmp_path / "out"
    folder.mkdir()
    yield folder / "result"
    assert list(folder.iterdir()) == []


COMMANDS = ("convert", "compile")


# ---- models ---------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "the file is empty"),
        (b"PK\x03\x04archive", "a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x00\x01\x02\x03", "not an ONNX model"),
        (b"just a text\n", "not an ONNX model"),
    ],
)
def test_what_is_not_onnx_is_refused(
    run: Run, tmp_path: Path, out: Path, command: str, data: bytes, text: str
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    refused(run(command, path, "-o", out), str(path), text)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_truncated_model_is_refused(run: Run, model: Path, out: Path, command: str) -> None:
    model.write_bytes(model.read_bytes()[:-20])
    refused(run(command, model, "-o", out), str(model), "truncated")


@pytest.mark.parametrize("command", [*COMMANDS, "inspect", "run"])
def test_a_missing_file_is_named(run: Run, tmp_path: Path, command: str) -> None:
    words = ["-o", tmp_path / "result"] if command in COMMANDS else []
    refused(run(command, tmp_path / "absent.onnx", *words), "absent.onnx", "No such file")


def external(folder: Path, location: str, **entries: str) -> Path:
    """The model with its weight in another file."""
    proto = product()
    weight = proto.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=value)
    return written(folder / "model.onnx", proto)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("location", ["../secret.bin", "sub/../../secret.bin"])
def test_external_data_outside_the_folder_is_refused(
    run: Run, tmp_path: Path, out: Path, command: str, location: str
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.bin").write_bytes(WEIGHT.tobytes())
    refused(run(command, external(tmp_path / "in", location), "-o", out), location, "outside")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_link_out_of_the_folder_is_refused(run: Run, tmp_path: Path, out: Path, command: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.bin").write_bytes(WEIGHT.tobytes())
    (tmp_path / "in" / "w.bin").symlink_to(tmp_path / "secret.bin")
    refused(run(command, external(tmp_path / "in", "w.bin"), "-o", out), "w.bin", "a link out")


@pytest.mark.parametrize("command", COMMANDS)
def test_external_data_with_another_checksum_is_refused(
    run: Run, tmp_path: Path, out: Path, command: str
) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    refused(run(command, external(tmp_path, "w.bin", checksum="0" * 40), "-o", out), "w.bin", "checksum")


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_operator_is_named(run: Run, tmp_path: Path, out: Path, command: str) -> None:
    proto = product()
    proto.graph.node[0].op_type = "MatMull"
    refused(run(command, written(tmp_path / "m.onnx", proto), "-o", out), "MatMull")


def test_an_operator_without_a_kernel_is_named(run: Run, tmp_path: Path, out: Path) -> None:
    text = f"{HEAD} g (uint8[9] x) => (uint8[h, w, 3] y) {{ [png] y = ImageDecoder (x) }}"
    path = written(tmp_path / "m.onnx", onnx.parser.parse_model(text))
    refused(run("compile", path, "-o", out), "ImageDecoder", "'png'")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ("y:2,3", "no input is called 'y'"),
        ("x:2,3,4", "rank"),
        ("x", "not an input shape"),
        ("x:2,-3", "not an input shape"),
    ],
)
def test_wrong_shapes_are_refused(
    run: Run, tmp_path: Path, out: Path, command: str, shape: str, text: str
) -> None:
    path = written(tmp_path / "m.onnx", product("batch"))
    refused(run(command, path, "-o", out, "--input-shape", shape), text)


# ---- options --------------------------------------------------------------------


def test_an_unknown_target_is_refused_with_the_nearest(run: Run, model: Path, out: Path) -> None:
    refused(run("compile", model, "-o", out, "--target", "arm64-linus"), "did you mean arm64-linux?")


def test_one_unknown_target_of_several_stops_all(run: Run, model: Path, out: Path) -> None:
    refused(run("compile", model, "-o", out, "--target", "host,wsam"), "did you mean wasm?")


def test_too_many_threads_are_refused(run: Run, model: Path, out: Path) -> None:
    refused(run("compile", model, "-o", out, "--threads", 1000), "threads", "got 1000")


def test_tuning_is_refused_for_other_machines(run: Run, model: Path, out: Path) -> None:
    command = ("compile", model, "-o", out, "--tune", "--target")
    refused(run(*command, "wasm"), "--tune", "got wasm")
    refused(run(*command, "host,arm64-linux"), "measures on the machine", "got arm64-linux")


def test_an_unknown_recipe_is_refused_with_the_nearest(run: Run, model: Path, out: Path) -> None:
    refused(run("convert", model, "-o", out, "--recipe", "sparse80"), "did you mean sparse-80?")


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("pases: [prune]", "did you mean passes?"),
        ("passes: [prun]", "did you mean prune?"),
        ("passes: [{prune: {sparsty: 0.5}}]", "did you mean sparsity?"),
        ("passes: [{prune: {sparsity: many}}]", "sparsity"),
        ("passes: [", "YAML"),
    ],
)
def test_wrong_recipe_files_are_refused_with_the_nearest(
    run: Run, model: Path, tmp_path: Path, out: Path, text: str, nearest: str
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    refused(run("convert", model, "-o", out, "--recipe", recipe), nearest)


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("prune.sparsity=2", "sparsity"),
        ("prune.sparsty=0.5", "did you mean sparsity?"),
        ("prun.sparsity=0.5", "did you mean prune?"),
        ("sparsity=0.5", "pass.option=value"),
    ],
)
def test_wrong_settings_are_refused(run: Run, model: Path, out: Path, setting: str, text: str) -> None:
    refused(run("convert", model, "-o", out, "--recipe", "sparse-50", "--set", setting), text)


def test_an_unknown_kind_of_report_is_refused_before_any_work(run: Run, tmp_path: Path, out: Path) -> None:
    refused(run("convert", tmp_path / "absent", "-o", out, "--report", "r.pdf"), ".json or .html")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_output_folder_is_named_before_any_work(run: Run, tmp_path: Path, command: str) -> None:
    result = run(command, tmp_path / "absent.onnx", "-o", tmp_path / "no" / "where")
    refused(result, str(tmp_path / "no" / "where"), "mkdir -p")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_output_is_wrong_usage(run: Run, model: Path, command: str) -> None:
    refused(run(command, model), "-o OUT")


def test_an_unknown_zoo_model_is_refused_with_the_nearest(run: Run, out: Path) -> None:
    refused(run("export", "mobilnet-v1", "-o", out), "did you mean mobilenet-v1?")


def test_an_unknown_engine_is_refused(run: Run, model: Path) -> None:
    refused(run("bench", model, "--against", "onnxruntim"), "did you mean onnxruntime?")


# ---- artifacts and feeds --------------------------------------------------------


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound artifact, built once."""
    folder = tmp_path_factory.mktemp("built")
    path = written(folder / "model.onnx", product())
    assert main(["compile", str(path), str(folder / "artifact"), "--json"]) == 0
    return folder / "artifact"


@pytest.fixture
def artifact(built: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(built, tmp_path / "artifact")


def test_a_wrong_checksum_is_refused(run: Run, artifact: Path) -> None:
    weights = artifact / "weights.bin"
    data = bytearray(weights.read_bytes())
    data[5] ^= 1
    weights.write_bytes(bytes(data))
    refused(run("run", artifact), "weights.bin", "SHA-256")


def test_a_truncated_artifact_is_refused(run: Run, artifact: Path) -> None:
    code = artifact / "model.so"
    code.write_bytes(code.read_bytes()[:-1])
    refused(run("run", artifact), "model.so", "size")


@pytest.mark.parametrize("name", ["manifest.json", "model.so", "weights.bin"])
def test_a_missing_file_of_an_artifact_is_named(run: Run, artifact: Path, name: str) -> None:
    (artifact / name).unlink()
    refused(run("run", artifact), name)


def test_a_manifest_that_is_no_json_is_refused(run: Run, artifact: Path) -> None:
    (artifact / "manifest.json").write_text("{")
    refused(run("run", artifact), "manifest")
    refused(run("inspect", artifact), "manifest")


def test_an_artifact_for_another_machine_says_so(run: Run, artifact: Path) -> None:
    path = artifact / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["target"]["family"] = "arm" if manifest["target"]["family"] != "arm" else "x86"
    path.write_text(json.dumps(manifest))
    refused(run("run", artifact), "this machine cannot run the artifact")


@pytest.mark.parametrize(
    ("feeds", "texts"),
    [
        ({"xx": np.zeros((2, 3), np.float32)}, ["'xx'", "did you mean x?"]),
        ({"x": np.zeros((3, 2), np.float32)}, ["'x'", "expected [2, 3]", "got [3, 2]"]),
        ({"x": np.zeros((2, 3), np.float64)}, ["'x'", "expected float32", "got float64"]),
        ({}, ["x"]),
    ],
)
def test_wrong_feeds_are_named(
    run: Run, artifact: Path, tmp_path: Path, feeds: dict[str, Any], texts: list[str]
) -> None:
    path = tmp_path / "feeds.npz"
    np.savez(path, **feeds)
    refused(run("run", artifact, "--inputs", path), *texts)


def test_feeds_that_are_no_npz_are_refused(run: Run, artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "feeds.npz"
    path.write_bytes(b"PK nothing")
    refused(run("run", artifact, "--inputs", path), "feeds.npz")
    refused(run("run", artifact, "--inputs", tmp_path / "absent.npz"), "absent.npz")


# ---- what may happen on the way -------------------------------------------------


def child(*words: object, before: str = "", prepare: Callable[[], None] | None = None) -> Outcome:
    """The command line in a process of its own, after the Python text `before`."""
    code = f"import sys; {before}\nfrom gossamer.tools.cli import main\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-P", "-c", code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=prepare)
    return Outcome(done.returncode, done.stdout, done.stderr)


def tiny_files_only() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))


def test_a_disk_that_takes_no_more_is_a_failed_job(model: Path, out: Path) -> None:
    refused(child("convert", model, "-o", out, prepare=tiny_files_only), str(out), "File too large", code=1)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system without room; only root can make one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=4k", "none", str(place)]
    if os.geteuid() != 0 or subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("a file system of 4 KiB cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_a_failed_job(run: Run, tmp_path: Path, full_disk: Path, command: str) -> None:
    proto = product()
    wide = np.ones((3, 4000), np.float32)
    proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(wide, "w"))
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 4000
    path = written(tmp_path / "wide.onnx", proto)
    result = run(command, path, "-o", full_disk / "result", "--no-verify")
    refused(result, str(full_disk / "result"), "No space left on device", code=1)
    assert list(full_disk.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "moment"),
    [
        ("convert", "import os; os.replace = lambda *a: os.kill(os.getpid(), 9)"),
        (
            "compile",
            "import os; from pathlib import Path; Path.rename = lambda *a: os.kill(os.getpid(), 9)",
        ),
    ],
)
def test_a_killed_process_leaves_nothing_at_the_output(
    model: Path, tmp_path: Path, command: str, moment: str
) -> None:
    """SIGKILL between the last byte and the rename: the worst moment."""
    result = child(command, model, "-o", tmp_path / "result", "--no-verify", before=moment)
    assert result.code == -signal.SIGKILL
    assert not (tmp_path / "result").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_killed_process_leaves_an_earlier_output_as_it_was(
    run: Run, model: Path, tmp_path: Path, command: str
) -> None:
    place = tmp_path / "result"
    assert run(command, model, "-o", place, "--no-verify").code == 0
    before = contents(place)
    moment = "import os; os.fsync = os.replace = lambda *a: os.kill(os.getpid(), 9);"
    moment += "from pathlib import Path; Path.chmod = lambda *a: os.kill(os.getpid(), 9)"
    assert child(command, model, "-o", place, "--no-verify", before=moment).code == -signal.SIGKILL
    assert contents(place) == before


def contents(place: Path) -> dict[str, bytes]:
    files = [place] if place.is_file() else sorted(place.iterdir())
    return {file.name: file.read_bytes() for file in files}


def test_a_terminated_process_cleans_up(model: Path, out: Path) -> None:
    moment = "import os; os.replace = lambda *a: os.kill(os.getpid(), 15)"
    result = child("convert", model, "-o", out, "--no-verify", before=moment)
    assert (result.code, result.err) == (128 + signal.SIGTERM, "error: terminated\n")


def test_an_output_that_is_wrong_is_not_written(
    run: Run, model: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossamer.tools.checking.TOLERANCE", -1.0)
    limits = "gossamer.tools.verifying.Reference.limits"
    monkeypatch.setattr(
        limits, lambda self: dict.fromkeys(self.trials[0].expected, -1.0)
    )  # an error of 0 is beyond
    refused(run("compile", model, "-o", out), "differs from onnxruntime", "nothing was written", code=1)
