"""The C runtime reads manifests as Python's does: the same refusals in the same words, no byte too far."""

from __future__ import annotations

import _ctypes
import ctypes
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gossamer.kernels.building.native import RUNTIME_FILES
from gossamer.kernels.building.sources import model_source
from gossamer.kernels.building.toolchain import runtime_source
from gossamer.runtime.errors import ArtifactError
from gossamer.runtime.manifest import parse_manifest

from .test_artifacts import FIELDS, changed

Damaged = Callable[..., Path]
DRIVER = Path(__file__).parents[2] / "tools" / "fuzzing" / "manifest_driver.c"

# What the C code does not use it does not read.
UNREAD = (
    "layers",
    "steps",
    "ledger",
    "weights.tensors[0].dtype",
    "weights.tensors[0].packing",
    "code[0].role",
)
OTHER_WORDS = {
    "name is too long",  # bytes, not characters
    "weights.tensors[0]",  # the offset alone is named
    "shape",  # compared with the code's before it is multiplied
    "code[0].file",
    "files",
    "slots is missing",
    "is not JSON",
}


@pytest.fixture(scope="module")
def build(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Links a C file with the runtime and the toy model under the address sanitizer."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("needs gcc or clang")
    include = runtime_source("gossamer.h").parent

    def link(source: Path, *requires: str) -> Path:
        folder, program = tmp_path_factory.mktemp("driver"), toy.program()
        sha256 = hashlib.sha256(program.weights).hexdigest()
        (folder / "kernels.c").write_text(toy.source(), encoding="utf-8")
        text = model_source(program, sha256, 1, embedded=False, requires=requires)
        (folder / "model.c").write_text(text, encoding="utf-8")
        (folder / "model.h").write_text(
            '#include "gossamer.h"\nextern const gossamer_model gossamer_model_toy;\n', encoding="utf-8"
        )
        sources = [source, folder / "model.c", folder / "kernels.c", *map(runtime_source, RUNTIME_FILES)]
        flags = ["-std=gnu11", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
        command = [compiler, *flags, "-DMODEL=gossamer_model_toy", f"-I{include}", f"-I{folder}"]
        done = subprocess.run(
            [*command, *map(str, sources), "-lpthread", "-lm", "-o", str(folder / "program")],
            capture_output=True,
            text=True,
        )
        if "cannot find" in done.stderr:
            pytest.skip("the compiler has no address sanitizer")
        assert done.returncode == 0, done.stderr
        return folder / "program"

    return link


@pytest.fixture(scope="module")
def driver(build: Callable[..., Path]) -> Path:
    return build(DRIVER)


def printed(*command: object) -> list[str]:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def python_says(data: bytes) -> str:
    try:
        parse_manifest(data)
    except ArtifactError as error:
        return str(error)
    return ""


def test_wrong_fields_are_refused_in_pythons_words(toy: Any, driver: Path, tmp_path: Path) -> None:
    text = (toy.artifact() / "manifest.json").read_text(encoding="utf-8")
    edits = [(path, value) for path, values in FIELDS.items() for value in values]
    for i, (path, value) in enumerate(edits):
        (tmp_path / f"{i}").write_text(json.dumps(changed(json.loads(text), path, value)), encoding="utf-8")
    lines = printed(driver, *(tmp_path / f"{i}" for i in range(len(edits))))
    for i, ((path, _), line) in enumerate(zip(edits, lines, strict=True)):
        status, _, said = line.partition(" ")
        expected = python_says((tmp_path / f"{i}").read_bytes())
        if not path.startswith(UNREAD) or "is not JSON" in expected:
            assert status == "11", (path, expected)
            assert said == expected or any(words in expected for words in OTHER_WORDS), (said, expected)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "nul", "\ufeff{}", "\0" * 9, "[" * 100_000, '{"format": NaN}', '{"a":' * 50_000),
        *(
            '{"a": 01}',
            '{"a": "\\x"}',
            '{"a": "\t"}',
            '{"a": 1,}',
            "{'a': 1}",
            '{"a": 1} x',
            '{"a": "\\ud8"}',
        ),
    ],
    ids=lambda text: ascii(text[:12]),
)
def test_what_is_no_manifest_is_refused(driver: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "m").write_text(text, encoding="utf-8")
    (line,) = printed(driver, tmp_path / "m")
    assert line.startswith("11 manifest.json: ")


@pytest.mark.parametrize(
    "data", [b'{"a": "\xc0\x80"}', b'{"a": "\xed\xa0\x80"}', b'{"a": "\xf5"}', b'{"\xff": 1}']
)
def test_text_that_is_no_utf8_is_refused(driver: Path, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m").write_bytes(data)
    assert printed(driver, tmp_path / "m") == ["11 manifest.json: is not JSON"]


def test_mutated_manifests_are_read_within_their_bytes(toy: Any, driver: Path) -> None:
    (line,) = printed(driver, toy.artifact() / "manifest.json", 5000, 1)
    refused, _, count, _ = line.split()
    assert int(count) == 5000
    assert int(refused) > 2500


def test_a_processor_without_a_feature_is_told(toy: Any, build: Callable[..., Path]) -> None:
    program = build(runtime_source("example.c"), "warp-drive")
    done = subprocess.run([program, toy.artifact()], capture_output=True, text=True)
    assert done.returncode == 1
    assert "the processor lacks instructions" in done.stderr


# ---- the shared library that ships ----


def opened(folder: Path, library: Path) -> tuple[int, int, str]:
    """Status of gossamer_open and gossamer_check on `folder` with the code of `library`, and the message."""
    code = ctypes.CDLL(str(library / "model.so"))
    model = ctypes.addressof(ctypes.c_char.in_dll(code, "gossamer_model_toy"))
    session, message = ctypes.c_void_p(), ctypes.create_string_buffer(400)
    path = os.fsencode(folder)
    status = code.gossamer_open(ctypes.c_void_p(model), path, 1, ctypes.byref(session))
    code.gossamer_close(session)
    checked = code.gossamer_check(ctypes.c_void_p(model), path, message, ctypes.c_size_t(400))
    _ctypes.dlclose(code._handle)
    return status, checked, message.value.decode()


def test_a_sound_folder_opens(toy: Any, damaged: Damaged) -> None:
    assert opened(damaged(), toy.artifact()) == (0, 0, "")


@pytest.mark.parametrize("embed_weights", [False, True])
def test_the_manifest_of_another_model_is_refused(toy: Any, damaged: Damaged, embed_weights: bool) -> None:
    folder = damaged(embed_weights=embed_weights)
    data = changed(json.loads((folder / "manifest.json").read_text()), "inputs[0].shape", [2, 13])
    (folder / "manifest.json").write_text(json.dumps(data), encoding="utf-8")
    library = toy.artifact(embed_weights=embed_weights)
    assert opened(folder, library) == (11, 11, "manifest and code disagree about the inputs")


@pytest.mark.parametrize("name", ["weights.bin", "manifest.json"])
@pytest.mark.parametrize("damage", ["link out", "pipe", "folder", "inner link"])
def test_files_that_are_none_are_refused(
    toy: Any, damaged: Damaged, tmp_path: Path, name: str, damage: str
) -> None:
    folder = damaged()
    (folder / name).rename(tmp_path / "outside")
    if damage == "link out":
        (folder / name).symlink_to(tmp_path / "outside")
    elif damage == "pipe":
        os.mkfifo(folder / name)
    elif damage == "folder":
        (folder / name).mkdir()
    else:
        (tmp_path / "outside").rename(folder / "inside")
        (folder / name).symlink_to("inside")
    status, _, _ = opened(folder, toy.artifact())
    assert (status == 0) == (damage == "inner link")
