"""Every architecture of the zoo has its paper's size; a small one exports and takes a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from gossamer.models.export import export_module, find_zoo_model, zoo_names
from gossamer.passes.loading import load_model
from gossamer.passes.recipe import load_recipe
from gossamer.passes.reference import run_onnx
from gossamer.passes.running import convert_model
from gossamer.passes.verifying import sample_feeds, verify_conversion

SMALL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mobilenet-v1": ({"width": 0.25, "size": 32, "classes": 10}, {"size": 32}),
    "mobilenet-v2": ({"width": 0.25, "size": 32, "classes": 10}, {"size": 32}),
    "efficientnet-b0": ({"width": 0.25, "size": 96, "classes": 10}, {"size": 96}),
    "resnet50": ({"width": 0.125, "size": 32, "classes": 10}, {"size": 32}),
    "vit-tiny": ({"width": 48, "depth": 2, "size": 64, "classes": 10}, {"size": 64}),
    "minilm-l6": (
        {"width": 48, "depth": 2, "heads": 4, "hidden": 96, "vocabulary": 50},
        {"sequence": 16, "vocabulary": 50},
    ),
}
"""Options of `build` and of `samples`."""

PARAMETERS = {
    "mobilenet-v1": 4_231_976,
    "mobilenet-v2": 3_504_872,
    "efficientnet-b0": 5_288_548,
    "resnet50": 25_557_032,
    "vit-tiny": 5_717_416,
    "minilm-l6": 22_565_376,
}
"""As the authors' releases count them; MiniLM without its pooler."""


def test_every_architecture_is_tested() -> None:
    assert set(SMALL) == set(PARAMETERS) == set(zoo_names())


@pytest.mark.parametrize("name", PARAMETERS)
def test_full_size_has_the_papers_parameters(name: str) -> None:
    options = {"size": 32} if "size" in SMALL[name][0] and name != "vit-tiny" else {}
    network = find_zoo_model(name).build(**options)
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]


@pytest.fixture(scope="module", params=sorted(SMALL))
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name: str = request.param
    zoo: Any = find_zoo_model(name)
    build, samples = SMALL[name]
    path = tmp_path_factory.mktemp("zoo") / f"{name}.onnx"
    return export_module(zoo.build(**build), zoo.samples(**samples), zoo.OUTPUTS, path)


def test_outputs_depend_on_inputs_and_keep_their_scale(small: Path) -> None:
    one, two = (run_onnx(small, sample_feeds(small, seed=seed))[0] for seed in (0, 1))
    assert 0.1 < float(one.std()) < 20
    assert float(np.abs(one - two).max()) > 0.05 * float(one.std())


def test_the_sparse_recipe_prunes_inner_layers_and_keeps_what_it_promises(small: Path) -> None:
    feeds = sample_feeds(small)
    converted, report = convert_model(load_model(small), load_recipe("sparse-80"), check_with=feeds)
    verify_conversion(small, converted, report, feeds)
    pruned = {change.operator for entry in report.passes if entry.name == "prune" for change in entry.changed}
    assert pruned == ({"MatMul"} if small.stem in ("vit-tiny", "minilm-l6") else {"Conv"})
