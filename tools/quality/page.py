"""The part of docs/compression.md that is measured: goals, and a table and a picture for each task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from inspect import getdoc

from .curves import Curve, Goal
from .measuring import Point
from .tasks import TASKS

__all__ = ["BEGIN", "END", "insert", "tables"]

BEGIN = "<!-- measured: begin -->"
END = "<!-- measured: end -->"


def insert(page: str, text: str) -> str:
    """`page` with `text` between its two marks. Raises ValueError where they are missing."""
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"the page has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{text.rstrip()}\n\n{END}{after}"


def tables(
    points: Mapping[str, Sequence[Point]],
    dense: Mapping[str, Point],
    curves: Sequence[Curve],
    goals: Sequence[Goal],
    pictures: Mapping[str, str],
) -> str:
    """Markdown: the goals (a missed one is bold), then every task's levels and its picture."""
    lines = ["## Goals", "", "| goal | task | reached |", "|---|---|---|"]
    lines += [line for goal in goals for line in _goal_rows(goal, points, dense)]
    titles = {curve.name: curve.title for curve in curves}
    for name, own in points.items():
        task, base = TASKS[name], dense[name]
        lines += ["", f"## {name}: {task.model}", "", (getdoc(task) or "").split("\n\n")[0], ""]
        lines += [f"float32: {base.score:.4g} {task.unit}, {base.bytes:,} bytes of weights.", ""]
        if name in pictures:
            lines += [f"![bytes against quality]({pictures[name]})", ""]
        lines += [
            f"| method | level | bytes | share | score ({task.unit}) | change | seconds |",
            "|---|---|---:|---:|---:|---:|---:|",
        ]
        lines += [_row(point, base, titles) for point in own]
    return "\n".join(lines)


def _row(point: Point, base: Point, titles: Mapping[str, str]) -> str:
    if point.score is None or base.score is None:
        return f"| {titles[point.curve]} | {point.level} | | | {point.note.replace('|', ' ')} | | |"
    cells = (
        titles[point.curve],
        point.level,
        f"{point.bytes:,}",
        f"{point.bytes / base.bytes:.3f}",
        f"{point.score:.4g}",
        f"{point.score - base.score:+.3g}",
        f"{point.seconds:.1f}",
    )
    return "| " + " | ".join(cells) + " |"


def _goal_rows(
    goal: Goal, points: Mapping[str, Sequence[Point]], dense: Mapping[str, Point]
) -> Iterator[str]:
    for name in goal.tasks:
        if name not in points:
            continue
        found = {(p.curve, p.level): p for p in points[name]}
        text, reached = _verdict(goal, found, dense[name], higher=TASKS[name].higher_is_better)
        yield f"| {goal.text} | {name} | {text if reached else f'**{text}**'} |"


def _verdict(
    goal: Goal, found: Mapping[tuple[str, str], Point], base: Point, *, higher: bool
) -> tuple[str, bool]:
    point = found.get((goal.curve, goal.level))
    if point is None or point.score is None or base.score is None:
        return "not measured", False
    sign = 1 if higher else -1
    if goal.at_most is not None:
        loss = sign * (base.score - point.score)
        return f"loses {loss:.2f}", loss <= goal.at_most + 1e-9
    if goal.not_worse_than:
        others = [
            p.score for key, p in found.items() if key[0] in goal.not_worse_than and p.score is not None
        ]
        if not others:
            return "not measured", False
        best = max(others, key=lambda score: sign * score)
        losses = [max(0.0, sign * (base.score - score)) for score in (point.score, best)]
        return f"{point.score:.4g} against {best:.4g}", losses[0] <= losses[1] + 1e-9
    other = found.get((goal.better_than, goal.level))
    if other is None or other.score is None:
        return "not measured", False
    return f"{point.score:.4g} against {other.score:.4g}", sign * (point.score - other.score) > 0
