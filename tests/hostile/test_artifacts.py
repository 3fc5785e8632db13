"""Broken, altered and foreign artifacts end in one line that names what is wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from gossamer.runtime.errors import ArtifactError
from gossamer.runtime.manifest import parse_manifest
from gossamer.runtime.session import InferenceSession

Damaged = Callable[..., Path]


class Field(Enum):
    """Stands for a value: the field is not there at all. Its name is the same in every process."""

    GONE = 0


GONE = Field.GONE


def edit(folder: Path, path: str, value: Any) -> None:
    """Sets a field of the manifest, "a.b[0].c", or removes it."""
    file = folder / "manifest.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(changed(data, path, value)), encoding="utf-8")


def changed(data: Any, path: str, value: Any) -> Any:
    *parents, last = path.replace("[", ".").replace("]", "").split(".")
    place = data
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    if value is GONE:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    return data


def refusal(folder: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        InferenceSession(folder).close()
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 1000
    return text


FIELDS: dict[str, list[Any]] = {
    "format": ["onnx", 1, GONE],
    "name": [None, 7, "x" * 5000, GONE],
    "gossamer": [1, GONE],
    "target": ["host", None, GONE],
    "target.name": [1, GONE],
    "target.triple": [[], GONE],
    "target.family": ["riscv", None, GONE],
    "target.container": ["coff", GONE],
    "target.requires": ["avx2", [1], GONE],
    "entry": ["main", "gossamer_entry_", "gossamer_entry_a b", "gossamer_entry_" + "x" * 300, 1, GONE],
    "threads": [0, -1, 17, 1.0, True, "1", GONE],
    "inputs": [{}, None, GONE],
    "inputs[0]": ["x", None],
    "inputs[0].name": [1, GONE],
    "inputs[0].dtype": ["float31", "object", "complex64", "O", GONE],
    "inputs[0].shape": [24, [-1], [1.5], [True], ["n"], [1 << 41], [1 << 30, 1 << 30], [1] * 33, GONE],
    "outputs": [{}, GONE],
    "outputs[0].shape": [[1 << 20, 1 << 20, 1 << 20], [10**400], GONE],
    "arena_bytes": [-1, 1 << 41, 0.5, "96", None, GONE],
    "arena_bound_bytes": [-1, 1 << 41, 0.5, "96", None, GONE],
    "scratch_bytes": [-1, 1 << 41, 0.5, "96", None, GONE],
    "weights": [[], GONE],
    "weights.file": ["../weights.bin", "/etc/passwd", "a/b", "..", ".", "", 1, "model.so", GONE],
    "weights.bytes": [-64, 1 << 41, "96", GONE],
    "weights.sha256": ["", "ab", "G" * 64, "A" * 64, 1, GONE],
    "weights.tensors": [{}, GONE],
    "weights.tensors[0]": [1, {}],
    "weights.tensors[0].offset": [-64, 1, 64, 1 << 40, 1 << 50, GONE],
    "weights.tensors[0].bytes": [-1, 97, 1 << 40, GONE],
    "weights.tensors[0].dtype": [1, GONE],
    "weights.tensors[0].packing": [None, GONE],
    "code": [[], {}, GONE],
    "code[0].role": ["plugin", GONE],
    "code[0].file": ["../model.so", "/tmp/model.so", "other.so", "model.so\0", "manifest.json", "", GONE],
    "layers": [{}, [1], [{}], GONE],
    "layers[0].macs": ["many", float("inf"), 1e300],
    "steps": [{}, [1], [{}], None, GONE],
    "steps[0].kernel": [1, "x" * 101, GONE],
    "steps[0].layers": ["node", [1], GONE],
    "steps[0].shape": [24, [-1], [1.5], [1] * 33, GONE],
    "steps[0].tile": [1, GONE],
    "steps[0].macs": [-1, 1.5, True, 1 << 61, GONE],
    "steps[0].read_bytes": [-1, 1 << 41, GONE],
    "steps[0].written_bytes": [-1, 1 << 41, GONE],
    "steps[0].scratch_bytes": [-1, 1 << 41, GONE],
    "ledger": [[], {}, None, 1],
    "ledger.integer_nodes": [-1, 1.5, True, GONE],
    "ledger.left": [{}, [1], [{}], [{"name": "n", "operator": "x" * 101, "reason": ""}], GONE],
    "files": [[], {}, GONE],
}


@pytest.mark.parametrize(
    ("path", "value"),
    [(path, value) for path, values in FIELDS.items() for value in values],
    ids=lambda v: str(v)[:30],
)
def test_every_wrong_field_is_refused_by_name(damaged: Damaged, path: str, value: Any) -> None:
    folder = damaged()
    edit(folder, path, value)
    text = refusal(folder)
    first = path.split(".")[0].split("[")[0]
    assert first in text or "not JSON" in text, text


@pytest.mark.parametrize(
    "entry",
    [
        {"bytes": -1, "sha256": "0" * 64},
        {"bytes": 1, "sha256": "zz"},
        {"bytes": "1", "sha256": "0" * 64},
        {},
        1,
    ],
)
def test_a_wrong_entry_of_files_is_refused(damaged: Damaged, entry: Any) -> None:
    folder = damaged()
    data = json.loads((folder / "manifest.json").read_text())
    data["files"]["model.so"] = entry
    (folder / "manifest.json").write_text(json.dumps(data))
    assert "files.model.so" in refusal(folder)


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/b", "..", "", ".hidden", "manifest.json", "a\0b", "a\\b", "é"]
)
def test_file_names_that_are_not_plain_are_refused(damaged: Damaged, name: str) -> None:
    folder = damaged()
    data = json.loads((folder / "manifest.json").read_text())
    data["files"][name] = data["files"]["model.so"]
    (folder / "manifest.json").write_text(json.dumps(data))
    assert "files names a file wrongly" in refusal(folder)


@pytest.mark.parametrize("version", [0, 1, 4, 2.0, "1", True, None, [], 10**30, GONE])
def test_another_version_is_refused(damaged: Damaged, version: Any) -> None:
    folder = damaged()
    edit(folder, "version", version)
    assert "version" in refusal(folder)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe{}",
        b"\x00" * 100,
        b"[" * 100_000,
        b'{"format": NaN}',
        b'{"version": 2' + b"0" * 5000 + b"}",
        b'{"a":' * 50_000,
    ],
    ids=["empty", "open", "list", "null", "utf-16", "zeros", "deep", "nan", "long number", "deep objects"],
)
def test_what_is_no_manifest_is_refused(damaged: Damaged, text: bytes) -> None:
    folder = damaged()
    (folder / "manifest.json").write_bytes(text)
    assert "manifest.json" in refusal(folder)


def test_a_manifest_cut_anywhere_is_refused(toy: Any) -> None:
    data = (toy.artifact() / "manifest.json").read_bytes().rstrip()
    for size in range(0, len(data), 7):
        with pytest.raises(ArtifactError):
            parse_manifest(data[:size])


def test_two_inputs_of_one_name_are_refused(damaged: Damaged) -> None:
    folder = damaged()
    tensor = {"name": "x", "dtype": "float32", "shape": [1]}
    edit(folder, "inputs", [tensor, tensor])
    assert "field inputs" in refusal(folder)


@pytest.mark.parametrize("target", ["host", "wasm"])
@pytest.mark.parametrize("name", ["weights.bin", "code"])
@pytest.mark.parametrize(
    "damage", ["cut", "grown", "altered", "empty", "gone", "folder", "link out", "dangling"]
)
def test_damaged_files_are_refused_by_name(
    damaged: Damaged, tmp_path: Path, target: str, name: str, damage: str
) -> None:
    folder = damaged(target)
    if name == "code":
        name = "model.so" if target == "host" else "model.relaxed.wasm"
    file = folder / name
    data = file.read_bytes()
    file.unlink()
    outside = tmp_path / "outside"
    outside.write_bytes(data)
    if damage == "folder":
        file.mkdir()
    elif damage == "link out":
        file.symlink_to(outside)
    elif damage == "dangling":
        file.symlink_to("nowhere")
    elif damage != "gone":
        middle = len(data) // 2
        altered = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        file.write_bytes({"cut": data[:-1], "grown": data + b"\0", "altered": altered, "empty": b""}[damage])
    words = {
        "altered": "wrong SHA-256",
        "gone": "is missing",
        "dangling": "is missing",
        "folder": "is not a file",
        "link out": "leads out",
    }
    text = refusal(folder)
    assert words.get(damage, "wrong size") in text
    assert name in text


def test_a_link_inside_the_folder_is_allowed(damaged: Damaged) -> None:
    folder = damaged()
    (folder / "weights.bin").rename(folder / "blob")
    (folder / "weights.bin").symlink_to("blob")
    InferenceSession(folder).close()


def test_a_manifest_that_is_a_link_out_is_refused(damaged: Damaged, tmp_path: Path) -> None:
    folder = damaged()
    (folder / "manifest.json").rename(tmp_path / "manifest.json")
    (folder / "manifest.json").symlink_to(tmp_path / "manifest.json")
    assert "leads out" in refusal(folder)


def test_a_folder_reached_through_a_link_is_allowed(damaged: Damaged, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(damaged())
    InferenceSession(tmp_path / "link").close()


def test_what_is_no_artifact_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file.onnx").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    assert "got nothing" in refusal(tmp_path / "nowhere")
    assert "got a file" in refusal(tmp_path / "file.onnx")
    assert "expected a manifest.json in it" in refusal(tmp_path / "folder")


def test_code_that_needs_a_newer_processor_names_the_feature(damaged: Damaged) -> None:
    if not os.path.exists("/proc/cpuinfo"):
        pytest.skip("needs /proc/cpuinfo")
    folder = damaged()
    edit(folder, "target.requires", ["warp-drive"])
    assert "one without warp-drive" in refusal(folder)


def rewritten(folder: Path, name: str, data: bytes) -> None:
    """Replaces a file and its entry in the manifest, as somebody who forges an artifact would."""
    import hashlib

    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    digest = hashlib.sha256(data).hexdigest()
    manifest["files"][name] = {"bytes": len(data), "sha256": digest}
    if name == manifest["weights"]["file"]:
        manifest["weights"].update(bytes=len(data), sha256=digest)
        manifest["weights"]["tensors"] = []
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_weights_of_another_size_than_the_code_expects_are_refused(damaged: Damaged) -> None:
    folder = damaged()
    rewritten(folder, "weights.bin", b"\0" * 48)
    assert "wrong size" in refusal(folder)


def test_a_library_that_is_none_is_refused(damaged: Damaged) -> None:
    folder = damaged()
    rewritten(folder, "model.so", b"\x7fELF" + b"\0" * 200)
    assert "cannot be loaded" in refusal(folder)


def test_a_library_of_another_model_is_refused(damaged: Damaged) -> None:
    folder = damaged()
    edit(folder, "entry", "gossamer_entry_other")
    assert "no such model" in refusal(folder)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("outputs[0].shape", [8]),
        ("outputs", []),
        ("inputs[0].shape", [2, 13]),
        ("inputs[0].dtype", "float64"),
        ("inputs[0].name", "z"),
        (
            "inputs",
            [{"name": "x", "dtype": "float32", "shape": [24]}] * 1
            + [{"name": "w", "dtype": "bool", "shape": []}],
        ),
    ],
)
def test_sizes_that_differ_from_the_code_are_refused(damaged: Damaged, path: str, value: Any) -> None:
    folder = damaged()
    edit(folder, path, value)
    assert "manifest and code disagree" in refusal(folder)


@pytest.mark.parametrize("data", [b"", b"\0asm\1\0\0\0", b"\0asm\1\0\0\0\xff\xff\xff", b"not wasm"])
def test_a_module_that_is_none_is_refused(damaged: Damaged, data: bytes) -> None:
    folder = damaged("wasm")
    rewritten(folder, "model.relaxed.wasm", data)
    assert "model.relaxed.wasm" in refusal(folder)


def test_a_module_of_another_model_is_refused(damaged: Damaged) -> None:
    folder = damaged("wasm")
    edit(folder, "entry", "gossamer_entry_other")
    assert "no such entry" in refusal(folder)


@pytest.mark.parametrize(
    ("path", "value"), [("code[0].relaxed", 1), ("code[1].heap_base", -1), ("code[1].initial_pages", 1 << 20)]
)
def test_wrong_fields_of_webassembly_code_are_refused(damaged: Damaged, path: str, value: Any) -> None:
    folder = damaged("wasm")
    edit(folder, path, value)
    assert path in refusal(folder)


def test_a_model_beyond_webassembly_memory_is_refused(damaged: Damaged) -> None:
    folder = damaged("wasm")
    edit(folder, "arena_bytes", 1 << 33)
    assert "does not fit" in refusal(folder)
