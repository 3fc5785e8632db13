"""The tables of docs/benchmarks.md: built, measured, kept and written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gossamer.runtime.errors import InputError, JobError, OptionError
from gossamer.tools.benchmarks.__main__ import main
from gossamer.tools.benchmarks.building import Builds
from gossamer.tools.benchmarks.measuring import PARTS, Measurement, Options
from gossamer.tools.benchmarks.page import BEGIN, END, goals, insert, page
from gossamer.tools.benchmarks.results import read_results, write_result
from gossamer.tools.benchmarks.single_layers import SINGLE_LAYERS
from gossamer.tools.listing import list_things

from .conftest import tiny_proto

ROOT = Path(__file__).resolve().parents[2]
GOALS = {part: [goal for goal in goals() if goal.part == part] for part in PARTS}


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Builds:
    """A small model in the place of one of the zoo's, with its batch given a size."""
    work = tmp_path_factory.mktemp("tables")
    proto = tiny_proto()
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    (work / "mobilenet-v1").mkdir()
    (work / "mobilenet-v1" / "dense.onnx").write_bytes(proto.SerializeToString())
    return Builds(work, "mobilenet-v1")


@pytest.mark.parametrize("name", PARTS)
def test_each_part_measures_what_its_goals_are_about(builds: Builds, name: str) -> None:
    try:
        measured = PARTS[name].measure(builds, Options(rounds=1))
    except (OptionError, JobError) as error:
        if not any(word in str(error) for word in ("install", "npm ci", "Node")):
            raise
        pytest.skip(str(error))
    assert str(builds.folder) not in measured.command
    work = builds.folder.parent
    result = write_result(work, name, builds.folder.name, measured)
    assert result in read_results(work)
    assert all(goal.reached(result) is not None for goal in GOALS[name])
    assert f"## {PARTS[name].title}" in page([result])


def test_goals_are_about_models_and_parts_that_exist() -> None:
    zoo = {row["name"] for row in list_things("models")}
    for goal in goals():
        assert goal.part in PARTS
        assert set(goal.models) <= zoo | set(SINGLE_LAYERS)
        assert all(PARTS[goal.part].takes(model) for model in goal.models)
        assert (goal.at_most is None) != (goal.at_least is None)


def kept(work: Path, dense: float) -> Path:
    rows = [
        {"what": "onnxruntime", "value": 10.0, "engine": "onnxruntime", "median_ms": 10.0, "ratio": 1.0},
        {"what": "dense", "value": dense, "engine": "gossamer", "median_ms": dense, "ratio": dense / 10},
    ]
    write_result(work, "native", "resnet50", Measurement("gossamer bench resnet50/dense.onnx", rows))
    return work


@pytest.mark.parametrize(("dense", "cell"), [(6.0, "0.60 (≤ 0.65)"), (7.0, "**0.70** (≤ 0.65)")])
def test_a_missed_goal_is_bold(tmp_path: Path, dense: float, cell: str) -> None:
    text = page(read_results(kept(tmp_path, dense)))
    assert f" {cell} |" in text
    assert "– (≤ 0.28)" in text  # 80 % is not measured
    assert "gossamer bench MODEL/dense.onnx" in text
    assert "| resnet50 | dense | gossamer |" in text


def command(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["benchmarks", *map(str, words)])
    return main()


def test_the_page_keeps_its_text_around_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "page.md"
    out.write_text(f"before\n\n{BEGIN}\n\nold\n\n{END}\n\nafter\n")
    assert command(monkeypatch, kept(tmp_path / "work", 6.0), "--no-measure", "-o", out) == 0
    text = out.read_text()
    assert text.startswith(f"before\n\n{BEGIN}\n\n## Reached")
    assert text.endswith(f"{END}\n\nafter\n")
    assert "\nold\n" not in text


def test_building_and_measuring_can_be_apart(builds: Builds, monkeypatch: pytest.MonkeyPatch) -> None:
    work = builds.folder.parent
    words = (work, "--model", "mobilenet-v1", "--part", "threads")
    assert command(monkeypatch, *words, "--build-only") == 0
    library = builds.folder / "dense" / "host" / "model.so"
    built = library.stat().st_mtime_ns
    assert command(monkeypatch, *words, "--reuse", "--rounds", 1) == 0
    assert library.stat().st_mtime_ns == built


def test_a_page_without_a_place_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="no place for the tables"):
        insert("no marks", "tables")
    assert command(monkeypatch, tmp_path, "--part", "nativ") == 2
    assert "did you mean native?" in capsys.readouterr().err


def test_our_page_has_a_place_for_the_tables() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert "new tables" in insert(text, "new tables")


def test_a_failed_build_says_what_was_run(tmp_path: Path) -> None:
    builds = Builds(tmp_path, "mobilenet-v1")
    (tmp_path / "mobilenet-v1" / "dense.onnx").write_bytes(b"no model")
    with pytest.raises(JobError, match=r"gossamer compile .*dense\.onnx.* a build failed"):
        builds.artifact("dense", "host")


def test_results_are_plain_data(tmp_path: Path) -> None:
    kept(tmp_path, 6.0)
    data = json.loads((tmp_path / "results" / "native" / "resnet50.json").read_text())
    assert data["rows"][1]["value"] == 6.0
    assert data["machine"]
    assert data["versions"]["gossamer"]
