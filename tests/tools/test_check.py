"""`gossamer check` finds everything in the way at once, by the compiler's own rules."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gossamer.runtime.errors import InputError
from gossamer.tools.cli import main
from gossamer.tools.compiling import compile as compile_model

FLOATS = [2, 4]


def saved(folder: Path, *nodes: onnx.NodeProto, strings: bool = False) -> Path:
    """A model of these nodes from x to y."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, FLOATS)]
    inputs += [helper.make_tensor_value_info("s", TensorProto.STRING, [3])] if strings else []
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, FLOATS)]
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("my.ops", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), folder / "m.onnx")
    return folder / "m.onnx"


def broken(folder: Path) -> Path:
    return saved(
        folder,
        helper.make_node("First", ["x"], ["a"], "one", domain="my.ops"),
        helper.make_node("Relu", ["x"], ["b"]),
        helper.make_node("Second", ["b"], ["c"], "two", domain="my.ops"),
        helper.make_node("Add", ["b", "c"], ["y"]),
        strings=True,
    )


def test_all_obstacles_are_listed_each_with_advice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(broken(tmp_path)), "--target", "host,wasm", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["compiles"]
    for target in report["targets"]:
        found = [(o["operator"], o["name"]) for o in target["obstacles"]]
        assert ("Second", "two") in found
        assert ("input", "s") in found
        assert all(o["advice"] for o in target["obstacles"])


def test_the_table_names_operators_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(broken(tmp_path))]) == 1
    printed = capsys.readouterr().out
    assert "Second" in printed
    assert "what to do" in printed


def test_what_compiles_is_said_to_compile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, helper.make_node("Relu", ["x"], ["y"]))
    assert main(["check", str(path)]) == 0
    assert "compiles for host" in capsys.readouterr().out


def test_compiling_stops_at_the_first_of_them(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        compile_model(broken(tmp_path), out=tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()


def test_a_result_without_a_shape_hides_what_depends_on_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(
        tmp_path,
        helper.make_node("First", ["x"], ["a"], "one", domain="my.ops"),
        helper.make_node("Neg", ["a"], ["b"]),
        helper.make_node("Add", ["b", "x"], ["y"]),
    )
    assert main(["check", str(path), "--json"]) == 1
    (target,) = json.loads(capsys.readouterr().out)["targets"]
    assert [o["name"] for o in target["obstacles"]] == ["one"]


def test_a_wrong_file_is_an_error_of_its_own(tmp_path: Path) -> None:
    np.save(tmp_path / "m.onnx.npy", np.zeros(3))
    assert main(["check", str(tmp_path / "m.onnx.npy")]) == 2
