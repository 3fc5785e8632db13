"""Models whose sizes come with each run give onnxruntime's results at every size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.runtime.errors import FeedError

from .open_sizes import Value, compiled, graph, node, same_as_onnxruntime

DRAW = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return DRAW.standard_normal(shape).astype(np.float32)


def test_shapes_that_a_model_computes(tmp_path: Path) -> None:
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "b"),
        node("Slice", "s one two", "t"),
        node("Unsqueeze", "b first", "b1"),
        node("Concat", "b1 t four four", "to", axis=0),
        node("Reshape", "x to", "r"),
        node("Transpose", "r", "turned", perm=[0, 2, 1, 3]),
        node("Reshape", "turned rows", "y"),
        node("Squeeze", "t", "n"),
        node("Range", "zero n step", "numbers"),
        node("ConstantOfShape", "s", "c"),
        node("Add", "x c", "z"),
    ]
    constants = {
        "zero": np.int64(0), "one": [1], "two": [2], "first": [0], "four": [4], "rows": [-1, 16],
        "step": np.int64(2),
    }  # fmt: skip
    outputs: list[Value] = [("y", "f", ["p", 16]), ("numbers", "i", ["q"]), ("z", "f", ["b", "t", 16])]
    model = graph(nodes, [("x", "f", ["b", "t", 16])], outputs, **constants)
    session = same_as_onnxruntime(
        model, tmp_path / "a", [{"x": floats(b, t, 16)} for b, t in ((1, 1), (3, 8))]
    )
    assert [list(output.shape) for output in session.get_outputs()][2] == ["b", "t", 16]


def test_parts_margins_and_repeats(tmp_path: Path) -> None:
    nodes = [
        node("Slice", "x one minus first", "part"),
        node("Slice", "x minus least first minus", "back"),
        node("Split", "x", "left right", axis=0, num_outputs=2),
        node("Concat", "right left back", "joined", axis=0),
        node("Pad", "joined pads", "margin", mode="reflect"),
        node("Tile", "part twice", "tiled"),
        node("Add", "row joined", "sum"),
        node("TopK", "joined two", "best places", axis=0),
    ]
    constants = {
        "one": [1], "minus": [-1], "first": [0], "least": [-(2**62)], "pads": [2, 0, 1, 1], "twice": [2, 1],
        "two": [2], "row": floats(1, 6),
    }  # fmt: skip
    outputs: list[Value] = [
        ("margin", "f", ["a", 7]),
        ("tiled", "f", ["b", 6]),
        ("sum", "f", ["c", 6]),
        ("places", "i", [2, 6]),
    ]
    model = graph(nodes, [("x", "f", ["n", 6])], outputs, **constants)
    same_as_onnxruntime(model, tmp_path / "a", [{"x": floats(n, 6)} for n in (3, 8, 33)])


def test_sizes_that_data_decide(tmp_path: Path) -> None:
    nodes = [
        node("NonZero", "x", "places"),
        node("Transpose", "places", "turned", perm=[1, 0]),
        node("GatherND", "x turned", "found"),
        node("Cast", "x", "truth", to=9),
        node("Reshape", "truth row", "flat"),
        node("Compress", "x flat", "kept"),
        node("Concat", "found kept", "both", axis=0),
    ]
    outputs: list[Value] = [("places", "i", [2, "k"]), ("both", "f", ["m"])]
    model = graph(nodes, [("x", "f", ["n", 3])], outputs, row=[-1])
    feeds = [
        {"x": floats(n, 3) * DRAW.integers(0, 2, (n, 3), dtype=np.int32).astype(np.float32)} for n in (2, 30)
    ]
    same_as_onnxruntime(model, tmp_path / "a", [*feeds, {"x": np.zeros((4, 3), np.float32)}])


def test_sizes_are_checked_when_a_run_starts(tmp_path: Path) -> None:
    inputs: list[Value] = [("x", "f", ["n", 4]), ("y", "f", ["m", 4]), ("z", "f", ["n", 1])]
    nodes = [node("Add", "x y", "s"), node("Mul", "s z", "o")]
    model = graph(nodes, inputs, [("o", "f", ["n", 4])])
    session = compiled(model, tmp_path / "a", {"x": ["2<=n<=64", 4]})
    x = floats(64, 4)
    np.testing.assert_array_equal(session.run(None, {"x": x, "y": x, "z": x[:, :1]})[0], (x + x) * x[:, :1])
    with pytest.raises(FeedError, match="Add: sizes differ"):
        session.run(None, {"x": x, "y": x[:3], "z": x[:, :1]})
    with pytest.raises(FeedError, match="another size for 'n'"):
        session.run(None, {"x": x, "y": x, "z": x[:3, :1]})
    for n in (1, 65):
        wrong = floats(n, 4)
        with pytest.raises(FeedError, match=r"wrong size for 'n'; expected 2\.\.64"):
            session.run(None, {"x": wrong, "y": wrong, "z": wrong[:, :1]})
    assert session.manifest.arena_bytes > 0  # a bound is known, so the arena does not grow
