"""Export: the file gives what PyTorch gives, is the same each time, and names what it is made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")

from gossamer.models.export import export_module, find_zoo_model, zoo_names
from gossamer.models.zoo import mobilenet_v1
from gossamer.passes.loading import load_model
from gossamer.passes.recipe import load_recipe
from gossamer.passes.running import convert_model
from gossamer.passes.verifying import sample_feeds, verify_conversion
from gossamer.runtime.errors import JobError, OptionError


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = mobilenet_v1.build(width=0.25, size=32, classes=10)
    path = tmp_path_factory.mktemp("export") / "small.onnx"
    return export_module(network, mobilenet_v1.samples(32), mobilenet_v1.OUTPUTS, path)


def test_the_file_is_whole_and_named(small: Path) -> None:
    proto = onnx.load(small)
    onnx.checker.check_model(proto, full_check=True)
    assert [value.name for value in proto.graph.input] == ["x"]
    assert [value.name for value in proto.graph.output] == ["logits"]
    operators = [node.op_type for node in proto.graph.node]
    assert operators.count("Conv") == operators.count("BatchNormalization") == operators.count("Clip") == 27
    assert "block3_pointwise.conv/Conv" in [node.name for node in proto.graph.node]
    assert not any(tensor.external_data for tensor in proto.graph.initializer)


def test_the_file_says_nothing_of_the_machine(small: Path) -> None:
    data = small.read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in data
    assert b"site-packages" not in data
    assert b".py" not in data


def test_the_network_is_the_same_each_time() -> None:
    one, two = (mobilenet_v1.build(width=0.25, size=32, classes=10).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = mobilenet_v1.build(width=0.25, size=32, classes=10, seed=1).state_dict()
    assert not torch.equal(one["fc.weight"], other["fc.weight"])


def test_full_size_has_the_papers_parameters() -> None:
    network = mobilenet_v1.build(size=32)
    assert sum(p.numel() for p in network.parameters()) == 4_231_976


def test_activations_keep_their_scale() -> None:
    network = mobilenet_v1.build(width=0.5, size=64)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        for name, layer in network.named_children():
            x = layer(x)
            if name.startswith("block"):
                assert 0.2 < float(x.std()) < 3, name


def test_a_recipe_runs_on_it(small: Path) -> None:
    feeds = sample_feeds(small)
    converted, report = convert_model(load_model(small), load_recipe("sparse-80"), check_with=feeds)
    verify_conversion(small, converted, report, feeds)
    (fold,) = (entry for entry in report.passes if entry.name == "fold-batch-norm")
    assert len(fold.changed) == 27
    (prune,) = (entry for entry in report.passes if entry.name == "prune")
    assert all("pointwise" in change.node for change in prune.changed)
    assert len(prune.changed) >= 10


def test_names_are_taken_with_dashes_or_underscores() -> None:
    assert find_zoo_model("mobilenet-v1") is find_zoo_model("mobilenet_v1")
    assert "mobilenet-v1" in zoo_names()
    with pytest.raises(OptionError, match="did you mean mobilenet-v1"):
        find_zoo_model("mobilenetv1")


def test_an_export_is_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export_module(torch.nn.Linear(3, 2), {"x": torch.ones(1, 3)}, ("y",), tmp_path / "m.onnx")
    assert capfd.readouterr() == ("", "")


def test_what_cannot_be_exported_fails_in_one_line(tmp_path: Path) -> None:
    class Odd(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (
                x * float(np.random.default_rng().random())
                if bool((x > 0).all())
                else x.new_zeros(int(x.sum()))
            )

    with pytest.raises(JobError) as caught:
        export_module(Odd(), {"x": torch.ones(1, 3)}, ("y",), tmp_path / "m.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
