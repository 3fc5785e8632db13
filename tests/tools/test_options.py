"""Texts of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.runtime.errors import OptionError
from gossamer.tools.options import choose_output, match_inputs, parse_shapes, split_targets


def test_shapes() -> None:
    assert parse_shapes(["x:1,3,224,224", "a:0:2", "n:"]) == {
        "x": (1, 3, 224, 224),
        "a:0": (2,),  # a name may hold a colon
        "n": (),  # a scalar
    }
    assert parse_shapes([]) == {}


@pytest.mark.parametrize("text", ["x", ":1,2", "x:1,,2", "x:0", "x:-1", "x:a", "x:1.5", "x:99999999999"])
def test_wrong_shapes_are_refused(text: str) -> None:
    with pytest.raises(OptionError):
        parse_shapes([text])


def test_an_unknown_input_is_refused_with_the_nearest() -> None:
    with pytest.raises(OptionError, match="did you mean tokens"):
        match_inputs({"token": (1,)}, ["tokens", "mask"])


def test_the_output_may_be_the_second_argument(tmp_path: Path) -> None:
    path = tmp_path / "out"
    assert choose_output(path, None) == choose_output(None, path) == choose_output(path, path) == path


def test_two_outputs_or_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="two outputs"):
        choose_output(tmp_path / "a", tmp_path / "b")
    with pytest.raises(OptionError, match="no output"):
        choose_output(None, None)


def test_an_output_without_a_folder_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="mkdir -p"):
        choose_output(tmp_path / "absent" / "out", None)


@pytest.mark.parametrize("text", ["", "host,", ",", "host,host"])
def test_wrong_lists_of_targets_are_refused(text: str) -> None:
    with pytest.raises(OptionError):
        split_targets(text)
