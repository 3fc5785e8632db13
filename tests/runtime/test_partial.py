"""Stacked weights under a budget: a prefix of the file is a smaller model, and nothing else of it is read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest

from gossamer.kernels.building import build_artifact
from gossamer.kernels.formats import find_format
from gossamer.kernels.formats.bit_stack import head
from gossamer.kernels.lowering import emit_objects, lower
from gossamer.kernels.targets import find_target
from gossamer.passes.compress.stack_bits import StackBits
from gossamer.passes.layers import weighted_layers
from gossamer.passes.loading import load_model
from gossamer.passes.preparing import prepare
from gossamer.passes.reference import run_onnx
from gossamer.runtime.errors import ArtifactError, OptionError
from gossamer.runtime.partial import MEGABYTE, PartialWeights, least_bytes, loaded_bytes
from gossamer.runtime.session import InferenceSession

Array = npt.NDArray[Any]
MODEL = """<ir_version: 10, opset_import: ["": 21]>
stacked (float[1, 24, 9, 9] x) => (float[9, 33] y) {
  a = Conv <pads = [1, 1, 1, 1]> (x, w0)
  b = Relu (a)
  c = Conv (b, w1)
  d = Reshape (c, rows)
  y = MatMul (d, w2)
}
"""
SHAPES = {"w0": (40, 24, 3, 3), "w1": (24, 40, 1, 1), "w2": (216, 33)}
BOTH = pytest.mark.parametrize("target", ["host", "wasm"])


def stacked_model() -> ir.Model:
    proto = onnx.parser.parse_model(MODEL)
    rng = np.random.default_rng(0)
    weights = {
        n: rng.standard_t(4, s).astype(np.float32) / np.float32(s[1] ** 0.5) for n, s in SHAPES.items()
    }
    for name, array in {**weights, "rows": np.array([9, 216])}.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    model = prepare(load_model(proto))
    StackBits(blocks=4, rank=2, min_elements=0)(model)
    return model


def with_blocks(levels: dict[str, int]) -> ir.Model:
    """The stacked model, each weight cut to its first blocks."""
    model = stacked_model()
    for name, level in levels.items():
        values = {p: model.graph.initializers[f"{name}.{p}"] for p in find_format("bit-stack").parts}
        arrays = {part: value.const_value.numpy() for part, value in values.items() if value.const_value}
        for part, array in head(arrays, level).items():
            values[part].const_value = ir.Tensor(np.ascontiguousarray(array))
            values[part].shape = ir.Shape(array.shape)
    return model


@pytest.fixture(scope="module")
def image() -> dict[str, Array]:
    return {"x": np.random.default_rng(1).standard_normal((1, 24, 9, 9)).astype(np.float32)}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The stacked model compiled, each target once."""
    folder = tmp_path_factory.mktemp("stacked")

    def build(target: str) -> Path:
        if target == "wasm":
            pytest.importorskip("wasmtime")
        out = folder / target
        if not out.exists():
            machine = find_target(target)
            program = lower(stacked_model(), machine)
            build_artifact(program, emit_objects(program, machine), machine, out)
        return out

    return build


def ends(folder: Path) -> list[int]:
    """Bytes of every prefix that can be loaded."""
    with InferenceSession(folder) as session:
        weights = session.manifest.weights
    least = least_bytes(weights)
    return [block.offset + block.bytes for block in weights.blocks if block.offset + block.bytes >= least]


@BOTH
def test_a_prefix_of_the_file_is_the_model_with_fewer_blocks(
    artifact: Callable[[str], Path], image: dict[str, Array], target: str
) -> None:
    folder = artifact(target)
    with InferenceSession(folder) as session:
        blocks = session.manifest.weights.blocks
        whole = session.run(None, image)
    assert len(blocks) == 12
    for end in ends(folder)[:: 3 if target == "host" else 8]:
        found = [block for block in blocks if block.offset + block.bytes <= end]
        # kernels name their blocks after the weight's node; its counter tells stacks apart
        levels = {block.counter: block.level for block in found}
        names = {block.counter: layer for block, layer in zip(blocks, layer_weights(), strict=False)}
        reference = run_onnx(with_blocks({names[c]: level for c, level in levels.items()}), image)
        with InferenceSession(folder, budget_mb=end / MEGABYTE) as session:
            got = session.run(None, image)
        assert np.abs(got[0] - reference[0]).max() <= 1e-5 * np.ptp(reference[0])
    with InferenceSession(folder, budget_mb=1e6) as session:
        assert session.run(None, image)[0].tobytes() == whole[0].tobytes()


def layer_weights() -> list[str]:
    """Weights in the order in which their first blocks are loaded: that of the layers."""
    weights = [str(layer.weight.name).removesuffix(".rows") for layer in weighted_layers(stacked_model())]
    return weights


@BOTH
def test_going_down_and_up_gives_the_same_bits_and_reads_what_is_missing(
    artifact: Callable[[str], Path], image: dict[str, Array], target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    plain = PartialWeights._read

    def counted(self: PartialWeights, stream: Any, offset: int, size: int, sha256: str) -> None:
        read.append(size)
        plain(self, stream, offset, size, sha256)

    monkeypatch.setattr(PartialWeights, "_read", counted)
    folder, prefixes = artifact(target), ends(artifact(target))
    low, middle, high = prefixes[0], prefixes[4], prefixes[-1]
    fresh = {}
    for end in (low, middle, high):
        with InferenceSession(folder, budget_mb=end / MEGABYTE) as session:
            fresh[end] = session.run(None, image)[0].tobytes()
    assert len(set(fresh.values())) == 3
    with InferenceSession(folder, budget_mb=middle / MEGABYTE) as session:
        for end in (high, low, high, middle, low, middle):
            assert session.set_budget(end / MEGABYTE) == end
            assert session.run(None, image)[0].tobytes() == fresh[end]
        read.clear()
        session.set_budget(low / MEGABYTE)
        assert not read
        session.set_budget(high / MEGABYTE)
        wanted = [b.bytes for b in session.manifest.weights.blocks if b.offset + b.bytes > low]
        assert read == wanted


def test_what_is_loaded_fits_the_budget_to_within_a_block(artifact: Callable[[str], Path]) -> None:
    with InferenceSession(artifact("host")) as session:
        weights = session.manifest.weights
    largest = max(block.bytes for block in weights.blocks) + 64
    for budget in np.random.default_rng(2).uniform(least_bytes(weights), weights.bytes, 50):
        found = loaded_bytes(weights, budget / MEGABYTE)
        assert budget - largest < found <= budget or found == ends(artifact("host"))[-1]


def test_too_small_a_budget_names_the_least(artifact: Callable[[str], Path]) -> None:
    folder = artifact("host")
    least = ends(folder)[0]
    for budget in (least / MEGABYTE - 0.001, 0, -1, float("nan")):
        with pytest.raises(OptionError, match=rf"at least {-(-least // 1000) / 1000:.3f}"):
            InferenceSession(folder, budget_mb=budget)
    with (
        InferenceSession(folder) as session,
        pytest.raises(OptionError, match="open it with budget_mb"),
    ):
        session.set_budget(1)


def test_damage_is_found_where_it_is_loaded(
    artifact: Callable[[str], Path], image: dict[str, Array], tmp_path: Path
) -> None:
    folder = shutil.copytree(artifact("host"), tmp_path / "damaged")
    prefixes = ends(folder)
    file = folder / "weights.bin"
    data = bytearray(file.read_bytes())
    data[prefixes[3] + 70] ^= 1
    file.write_bytes(data)
    with InferenceSession(folder, budget_mb=prefixes[3] / MEGABYTE) as session:
        before = session.run(None, image)[0].tobytes()
        with pytest.raises(ArtifactError, match="damaged part"):
            session.set_budget(prefixes[4] / MEGABYTE)
        assert session.run(None, image)[0].tobytes() == before
    with pytest.raises(ArtifactError, match="SHA-256"):
        InferenceSession(folder)
    data[3] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtifactError, match="damaged part"):
        InferenceSession(folder, budget_mb=prefixes[0] / MEGABYTE)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("offset", 64, "blocks\\[1\\].offset is wrong"),
        ("offset", 1 << 50, "blocks\\[1\\].offset"),
        ("bytes", -1, "blocks\\[1\\].bytes"),
        ("level", 2, "blocks\\[1\\].level"),
        ("level", 0, "blocks\\[1\\].level"),
        ("counter", 1, "blocks\\[1\\].counter"),
        ("counter", 1 << 40, "blocks\\[1\\].counter"),
        ("sha256", "00", "blocks\\[1\\].sha256"),
    ],
)
def test_blocks_that_contradict_each_other_are_refused(
    artifact: Callable[[str], Path], tmp_path: Path, key: str, value: Any, text: str
) -> None:
    folder = shutil.copytree(artifact("host"), tmp_path / "hostile")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["weights"]["blocks"][1][key] = value
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ArtifactError, match=text):
        InferenceSession(folder, budget_mb=1e6)


def test_weights_without_stacks_are_loaded_whole_or_not(toy: Any) -> None:
    folder = toy.artifact()
    with InferenceSession(folder) as session:
        size = session.manifest.weights.bytes
    with InferenceSession(folder, budget_mb=size / MEGABYTE):
        pass
    with pytest.raises(OptionError, match="stack-bits"):
        InferenceSession(folder, budget_mb=(size - 1) / MEGABYTE)
    with pytest.raises(OptionError, match="inside the code"):
        InferenceSession(toy.artifact(embed_weights=True), budget_mb=1)
