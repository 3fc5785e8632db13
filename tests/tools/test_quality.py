"""The page of bytes against quality says what was measured, and marks what was missed."""

from __future__ import annotations

import pytest

from gossamer.passes.recipe import load_recipe
from gossamer.tools.quality.curves import Curve, Goal, Level, curves, goals
from gossamer.tools.quality.measuring import Point
from gossamer.tools.quality.page import BEGIN, END, insert, tables
from gossamer.tools.quality.tasks import TASKS

CURVES = [Curve(name=n, title=n.upper(), recipe="default", levels=(Level(label="4"),)) for n in ("a", "b")]


def point(curve: str, score: float | None, size: int = 50) -> Point:
    return Point("resnet20", curve, "4", size, score, 1.0, "" if score is not None else "refused: why")


def page(*points: Point, **goal: object) -> str:
    known = [Goal.model_validate({"text": "g", "curve": "a", "level": "4", "tasks": ["resnet20"], **goal})]
    dense = {"resnet20": Point("resnet20", "dense", "float32", 100, 91.5, 0.0)}
    return tables({"resnet20": points}, dense, CURVES, known, {"resnet20": "p.svg"})


def test_a_goal_that_is_missed_is_bold() -> None:
    assert "| g | resnet20 | loses 1.00 |" in page(point("a", 90.5), at_most=1.0)
    assert "| g | resnet20 | **loses 1.10** |" in page(point("a", 90.4), at_most=1.0)
    assert "| g | resnet20 | **not measured** |" in page(point("b", 90.4), at_most=1.0)


def test_a_goal_compares_two_curves() -> None:
    better, worse = point("a", 90.0), point("b", 89.0)
    assert "| g | resnet20 | 90 against 89 |" in page(better, worse, better_than="b")
    assert "| g | resnet20 | **89 against 90** |" in page(point("a", 89.0), point("b", 90.0), better_than="b")


def test_a_goal_takes_the_best_of_other_curves_and_no_gain_over_dense() -> None:
    worse, better = point("b", 90.0), point("b", 91.0)
    assert "| g | resnet20 | 91 against 91 |" in page(point("a", 91.0), worse, better, not_worse_than=["b"])
    assert "**90.9 against 91**" in page(point("a", 90.9), better, not_worse_than=["b"])
    assert "| 91.6 against 92 |" in page(point("a", 91.6), point("b", 92.0), not_worse_than=["b"])


def test_rows_give_shares_and_changes_and_refusals() -> None:
    text = page(point("a", 90.5), point("b", None), at_most=1.0)
    assert "| A | 4 | 50 | 0.500 | 90.5 | -1 | 1.0 |" in text
    assert "| B | 4 | | | refused: why | | |" in text


def test_only_the_measured_part_of_a_page_is_replaced() -> None:
    assert insert(f"before {BEGIN} old {END} after", "new") == f"before {BEGIN}\n\nnew\n\n{END} after"
    with pytest.raises(ValueError, match="measured"):
        insert("no marks", "new")


def test_curves_and_goals_name_what_exists() -> None:
    known = {curve.name: {level.label for level in curve.levels} for curve in curves()}
    for curve in curves():
        assert set(curve.tasks) <= set(TASKS)
        for level in curve.levels if curve.quantizer == "gossamer" else ():
            load_recipe(level.recipe or curve.recipe).with_settings((*curve.set, *level.set)).build()
    for goal in goals():
        assert goal.level in known[goal.curve]
        assert set(goal.tasks) <= set(TASKS)
        assert {goal.better_than or goal.curve, *goal.not_worse_than} <= set(known)
