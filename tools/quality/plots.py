"""Bytes against quality, one picture for each task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .curves import Curve
from .measuring import Point
from .tasks import Task

__all__ = ["plot"]


def plot(task: type[Task], dense: Point, points: Sequence[Point], known: Sequence[Curve], path: Path) -> None:
    """Write an SVG: weights as a share of the dense model's, and the score of every curve's levels."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # text stays text, and nothing depends on the moment: the same results give the same file
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": task.name}):
        figure = Figure(figsize=(7.5, 4.5), layout="constrained")
        axes = figure.add_subplot()
        for curve in known:
            own = [p for p in points if p.curve == curve.name and p.score is not None]
            own.sort(key=lambda point: point.bytes)
            if own:
                shares = [point.bytes / dense.bytes for point in own]
                style = "o-" if curve.calibrate else "s--"
                axes.plot(
                    shares, [point.score or 0.0 for point in own], style, label=curve.title, markersize=4
                )
        axes.axhline(dense.score or 0.0, color="0.6", linewidth=1)
        axes.set_xlabel("bytes of weights, share of float32")
        axes.set_ylabel(task.unit if task.unit != "%" else "accuracy, %")
        axes.set_title(f"{task.model}: float32 {dense.score:.4g} {task.unit}, {dense.bytes:,} bytes")
        axes.grid(visible=True, alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
