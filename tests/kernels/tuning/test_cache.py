"""The cache of measured times: what is found again, and files that are not ours."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gossamer.kernels.tuning.cache import TimingCache, default_path

TIMES = {"gemm 8x3v": 2e-3, "gemm 5x5v": 3e-3}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "tuning.json"


def test_what_was_put_is_found_by_another_process(path: Path) -> None:
    TimingCache(path, "v").put(("machine", 1), "layer", TIMES)
    assert TimingCache(path, "v").get(("machine", 1)) == TIMES
    assert TimingCache(path, "v").get(("machine", 2)) is None
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_layers_are_added_and_another_version_starts_anew(path: Path) -> None:
    cache = TimingCache(path, "v")
    cache.put(1, "layer", TIMES)
    cache.put(2, "layer", TIMES)
    assert cache.get(1) == cache.get(2) == TIMES
    newer = TimingCache(path, "w")
    assert newer.get(1) is None
    newer.put(3, "layer", TIMES)
    assert newer.get(3) == TIMES


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"format": "another"}', '{"entries": {}}', "[" * 100_000, "\x00\x01"],
)
def test_a_foreign_file_counts_as_empty_and_is_replaced(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    cache = TimingCache(path, "v")
    assert cache.get(1) is None
    cache.put(1, "layer", TIMES)
    assert cache.get(1) == TIMES


@pytest.mark.parametrize(
    "seconds", [None, 3, {}, [1.0], {"a": "1"}, {"a": -1.0}, {"a": 0.0}, {"a": float("inf")}]
)
def test_a_damaged_entry_is_measured_again(path: Path, seconds: object) -> None:
    cache = TimingCache(path, "v")
    cache.put(1, "layer", TIMES)
    data = json.loads(path.read_text())
    data["entries"] = {key: {"seconds": seconds} for key in data["entries"]}
    path.write_text(json.dumps(data))
    assert cache.get(1) is None


def test_bytes_that_are_no_text_count_as_empty(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"\xff\xfe\x00")
    assert TimingCache(path, "v").get(1) is None


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    cache = TimingCache(blocked / "tuning.json", "v")
    cache.put(1, "layer", TIMES)
    assert cache.get(1) is None


def test_the_cache_lies_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "gossamer" / "tuning.json"
    monkeypatch.setenv("XDG_CACHE_HOME", os.path.join("not", "absolute"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_path() == tmp_path / "home" / ".cache" / "gossamer" / "tuning.json"
