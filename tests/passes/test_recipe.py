"""Recipes are strict: what is not known is refused, naming what is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.passes.recipe import Recipe, load_recipe
from gossamer.runtime.errors import OptionError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_extends_a_preset_and_keeps_stages_in_order(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, "extends: default\npasses:\n  - prune: {sparsity: 0.25}\n"))
    names = [name for name, _ in recipe.passes]
    assert names.index("remove-unused") < names.index("prune") < names.index("fuse-pads")
    assert dict(recipe.passes)["prune"] == {"sparsity": 0.25}


def test_an_own_pass_replaces_options_of_the_base(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, "extends: sparse-80\npasses:\n  - prune: {pattern: element}\n"))
    assert dict(recipe.passes)["prune"] == {
        "sparsity": 0.8,
        "pattern": "element",
        "layers": ["Conv", "Gemm", "MatMul"],
        "kernels": "all",
        "score": "relative",
    }


def test_settings_replace_options() -> None:
    recipe = load_recipe("sparse-80").with_settings(["prune.sparsity=0.5", "prune.layers=[Conv, Gemm]"])
    assert dict(recipe.passes)["prune"]["sparsity"] == 0.5
    assert dict(recipe.passes)["prune"]["layers"] == ["Conv", "Gemm"]
    assert dict(load_recipe("sparse-80").passes)["prune"]["sparsity"] == 0.8


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("prune.sparsty=0.5", "did you mean sparsity"),
        ("prun.sparsity=0.5", "did you mean prune"),
        ("prune.sparsity", "pass.option=value"),
        ("prune.sparsity=1.5", "less than 1"),
        ("prune.sparsity=much", "number"),
        ("prune.scope=globl", "'layer' or 'global'"),
        ("prune.pattern=4by1", "not a sparsity pattern"),
        ("prune.pattern=0x1", "not a sparsity pattern"),
        ("prune.pattern=4:2", "not a sparsity pattern"),
        ("prune.pattern=2:4", "sparsity of its own"),
        ("prune.nodes={a: {sparsty: 0.1}}", "did you mean sparsity"),
        ("prune.nodes={a: {scope: global}}", "unknown option 'scope'"),
        ("prune.operators={Cnov: {sparsity: 0.1}}", "did you mean Conv"),
        ("remove-unused.x=1", "no options"),
        ("prune.sparsity={", "not YAML"),
    ],
)
def test_a_wrong_setting_is_refused_with_advice(setting: str, text: str) -> None:
    with pytest.raises(OptionError, match=text):
        load_recipe("sparse-80").with_settings([setting])


@pytest.mark.parametrize(
    ("yaml", "text"),
    [
        ("pases: []", "did you mean passes"),
        ("passes: prune", "passes are a list"),
        ("passes: [prnue]", "did you mean prune"),
        ("passes: [{prune: {}, encode-sparse: {}}]", "one name with its options"),
        ("passes: [{prune: 3}]", "one name with its options"),
        ("passes: [encode-sparse, fold-constants]", "stages in the order clean, compress"),
        ("passes: [{prune: {sparsity: 0.1, sparsity: 0.2}}]", "given twice"),
        ("- a", "not a recipe"),
        ("a: [", "not YAML"),
        ("!!python/object/apply:os.system [ls]", "not YAML"),
        ("extends: none.yaml", "No such file"),
        ("extends: my.yaml", "without end"),
        ("extends: defualt", "did you mean default"),
    ],
)
def test_a_wrong_file_is_refused_with_advice(tmp_path: Path, yaml: str, text: str) -> None:
    with pytest.raises(OptionError, match=text):
        load_recipe(write(tmp_path, yaml))


def test_an_unknown_recipe_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="did you mean sparse-80"):
        load_recipe("sparse80")
    with pytest.raises(OptionError, match="No such file"):
        load_recipe(tmp_path / "none.yaml")


def test_a_pass_without_a_setting_must_be_in_the_recipe() -> None:
    with pytest.raises(OptionError, match="has no pass 'prune'"):
        load_recipe("default").with_settings(["prune.sparsity=0.5"])


def test_a_recipe_may_be_made_in_python() -> None:
    assert [step.pass_name() for step in Recipe("mine", (("prune", {"sparsity": 0.5}),)).build()] == ["prune"]
