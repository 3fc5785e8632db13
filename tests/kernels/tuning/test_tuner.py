"""Tuning: which way is taken, what is measured again, and a real run on this machine."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import gossamer
from gossamer.kernels.cpu.isa import Isa
from gossamer.kernels.lowering import lower
from gossamer.kernels.lowering.ways import Trial
from gossamer.kernels.targets import find_target
from gossamer.kernels.tuning import MeasuringTuner, TimingCache
from gossamer.kernels.tuning.measuring import in_turns
from gossamer.kernels.tuning.processor import processor_name
from gossamer.passes.clean import prepare
from gossamer.passes.loading import load_model

ISA = Isa(find_target("x86-64-v3"), "model")
EMPTY = Trial((), lambda tensor: None)


class Stopwatch:
    """Gives made-up seconds to each trial and counts how often it is asked."""

    def __init__(self, *seconds: float) -> None:
        self.seconds, self.asked = list(seconds), 0

    def __call__(self, trials: Sequence[Trial], isa: Isa) -> list[float]:
        self.asked += 1
        return self.seconds[: len(trials)] + [9.0] * (len(trials) - len(self.seconds))


def picked(tuner: MeasuringTuner, worth: float = 1.0, signature: str = "layer") -> tuple[str, str]:
    ways = {name: lambda: EMPTY for name in ("a", "b", "c")}
    return tuner.pick("layer", (signature,), ways, {"a": 1.0, "b": worth, "c": 1.0}, ISA)


def test_the_fastest_way_is_picked_with_its_reason(tmp_path: Path) -> None:
    tuner = MeasuringTuner(TimingCache(tmp_path / "t.json"), measure=Stopwatch(2e-3, 0.91e-3, 0.95e-3))
    assert picked(tuner) == ("b", "b measured 0.91 ms, next c 0.95 ms")


def test_a_way_that_rounds_more_must_be_worth_it(tmp_path: Path) -> None:
    tuner = MeasuringTuner(TimingCache(tmp_path / "t.json"), measure=Stopwatch(2e-3, 0.9e-3, 1e-3))
    assert picked(tuner, worth=0.95)[0] == "b"
    assert picked(tuner, worth=0.85)[0] == "c"


def test_a_layer_is_measured_once(tmp_path: Path) -> None:
    watch, told = Stopwatch(1.0, 2.0, 3.0), list[str]()
    for _ in range(2):
        picked(MeasuringTuner(TimingCache(tmp_path / "t.json"), told.append, watch))
    assert (watch.asked, told) == (1, ["layer"])
    picked(MeasuringTuner(TimingCache(tmp_path / "t.json"), told.append, watch), signature="another")
    assert watch.asked == 2


def test_times_of_other_ways_are_measured_again(tmp_path: Path) -> None:
    cache, watch = TimingCache(tmp_path / "t.json"), Stopwatch(1.0, 2.0)
    tuner = MeasuringTuner(cache, measure=watch)
    for names in ("ab", "ac"):
        tuner.pick("layer", (), {n: lambda: EMPTY for n in names}, dict.fromkeys(names, 1.0), ISA)
    assert watch.asked == 2


def test_calls_take_turns_and_short_ones_are_repeated() -> None:
    now, order = 0.0, list[str]()

    def call(name: str, seconds: float) -> Any:
        def run() -> None:
            nonlocal now
            now += seconds
            order.append(name)

        return run

    times = in_turns([call("slow", 0.04), call("quick", 1e-5)], lambda: now)
    assert times == pytest.approx([0.04, 1e-5])
    runs = [(name, len(list(group))) for name, group in itertools.groupby(order)]
    assert [name for name, _ in runs] == ["slow", "quick"] * (len(runs) // 2)
    assert runs[-2:] == [("slow", 1), ("quick", 5)]


def model(weights: dict[str, np.ndarray[Any, Any]], nodes: list[Any], shape: tuple[int, ...]) -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    constants = [numpy_helper.from_array(a, n) for n, a in weights.items()]
    graph = helper.make_graph(nodes, "tuned", [x], [y], constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(onnx.shape_inference.infer_shapes(proto).SerializeToString())


def layers(sparsity: float = 0.0) -> bytes:
    """A 3 × 3 convolution of two halves of the channels, ReLU, 1 × 1 convolution, and a product of rows."""
    rng = np.random.default_rng(3)
    kept = np.repeat(rng.random((4, 16)) >= sparsity, 4, axis=0)
    weights = {
        "wide": rng.standard_normal((16, 16, 3, 3)).astype(np.float32),
        "narrow": (rng.standard_normal((16, 16)) * kept).astype(np.float32).reshape(16, 16, 1, 1),
        "right": rng.standard_normal((10, 33)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "wide"], ["a"], name="wide", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "narrow"], ["c"], name="narrow"),
        helper.make_node("MatMul", ["c", "right"], ["y"], name="right"),
    ]
    return model(weights, nodes, (1, 16, 12, 10))


@pytest.mark.parametrize(("sparsity", "turn"), [(0.0, 2), (0.0, 4), (0.6, 3)])
def test_a_way_that_the_estimate_would_not_take_is_right(
    sparsity: float, turn: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`compile` compares with onnxruntime."""
    watch = Stopwatch(*[2.0] * turn, 1.0)
    tuner = MeasuringTuner(TimingCache(tmp_path / "t.json"), measure=watch)
    monkeypatch.setattr("gossamer.tools.compiling._tuner", lambda steps: tuner)
    artifact = gossamer.compile(layers(sparsity), tune=True)
    assert artifact.checks
    assert watch.asked == 3
    plain = lower(prepare(load_model(layers(sparsity)), {}), find_target("host"))
    assert [layer.tile for layer in artifact.layers] != [layer.tile for layer in plain.layers]
    assert "measured 1000 ms, next" in artifact.layers[0].reason


def test_a_model_is_tuned_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "tuning.json"  # not by XDG_CACHE_HOME, where the linker keeps what it compiled too
    monkeypatch.setattr("gossamer.kernels.tuning.cache.default_path", lambda: place)
    artifact = gossamer.compile(layers(0.6), tune=True)
    assert artifact.checks
    for layer in artifact.layers:
        assert "measured" in layer.reason
        assert layer.tile in layer.reason
    assert place.is_file()
    monkeypatch.setattr("gossamer.kernels.tuning.measuring.in_turns", None)
    again = gossamer.compile(layers(0.6), tune=True, verify=False)
    assert again.layers == artifact.layers


def test_processors_are_told_apart(tmp_path: Path) -> None:
    intel, arm, empty = tmp_path / "intel", tmp_path / "arm", tmp_path / "empty"
    intel.write_text("processor\t: 0\nmodel name\t: Fast 9\nprocessor\t: 1\nmodel name\t: Fast 9\n")
    arm.write_text("processor : 0\nCPU implementer : 0x41\nCPU variant : 0x1\nCPU part : 0xd0c\n")
    empty.write_text("")
    assert processor_name(intel) == "Fast 9"
    assert processor_name(arm) == "0x41 0xd0c 0x1"
    assert processor_name(empty) == processor_name(tmp_path / "absent") != ""
