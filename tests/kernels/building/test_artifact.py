"""What a built folder holds, for every target."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from gossamer.kernels.building import build_artifact
from gossamer.kernels.building.elf import dynamic_symbols, needed_libraries
from gossamer.kernels.building.platform_symbols import LIBC, LIBM
from gossamer.kernels.building.wasm_module import read_module
from gossamer.kernels.targets import find_target
from gossamer.runtime.artifact import open_artifact
from gossamer.runtime.errors import JobError, OptionError
from gossamer.runtime.manifest import parse_manifest

ELF = ["host", "x86-64-v2", "arm64-linux", "arm64-android", "armv7-linux"]
API = {
    *("gossamer_open", "gossamer_open_memory", "gossamer_describe", "gossamer_run", "gossamer_close"),
    *("gossamer_error", "gossamer_profile", "gossamer_model_toy", "gossamer_check"),
    *("gossamer_sizes", "gossamer_run_sized", "gossamer_profile_sized"),
}


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("target", ELF)
def test_a_linux_artifact_holds_library_archive_header_and_weights(toy: Any, target: str) -> None:
    folder = toy.artifact(target)
    assert files(folder) == {"manifest.json", "weights.bin", "model.so", "libmodel.a", "model.h"}
    assert (folder / "weights.bin").read_bytes() == toy.weights.tobytes()


@pytest.mark.parametrize("target", ELF)
@pytest.mark.parametrize("embed", [False, True])
def test_a_library_exports_the_interface_and_needs_the_c_library_only(
    toy: Any, target: str, embed: bool
) -> None:
    data = (toy.artifact(target, embed_weights=embed) / "model.so").read_bytes()
    undefined, exported = dynamic_symbols(data)
    assert exported == API
    assert undefined <= LIBC | LIBM
    allowed = {"libc.so", "libm.so"} if "android" in target else {"libc.so.6", "libm.so.6", "libpthread.so.0"}
    assert set(needed_libraries(data)) <= allowed


@pytest.mark.parametrize("target", ELF)
def test_shipped_code_names_no_file_of_the_machine_that_built_it(toy: Any, target: str) -> None:
    folder = toy.artifact(target)
    for name in ("model.so", "libmodel.a"):
        data = (folder / name).read_bytes()
        assert b".debug" not in data
        assert str(folder.parent).encode() not in data


def test_an_apple_artifact_holds_object_and_archive(toy: Any) -> None:
    folder = toy.artifact("arm64-apple")
    assert files(folder) == {"manifest.json", "weights.bin", "model.o", "libmodel.a", "model.h"}
    assert (folder / "model.o").read_bytes()[:4] == b"\xcf\xfa\xed\xfe"  # Mach-O, 64 bits


@pytest.mark.parametrize("embed", [False, True])
def test_a_wasm_module_imports_memory_and_a_hook_and_is_small(toy: Any, embed: bool) -> None:
    folder = toy.artifact("wasm", embed_weights=embed)
    manifest = open_artifact(folder).manifest
    assert [code.relaxed for code in manifest.code] == [False, True]
    for code in manifest.code:
        data = (folder / code.file).read_bytes()
        module = read_module(data)
        assert module.imports == ["env.memory", "env.sync"]
        assert manifest.entry in module.exports
        assert code.heap_base == module.constants["__heap_base"] >= 65536
        assert code.initial_pages == module.memory_pages
        assert len(data) < 2048
        if embed:
            assert module.constants["gossamer_weights"] % 64 == 0


def test_a_wasm_module_that_calls_libm_brings_it_along(toy: Any) -> None:
    import numpy as np

    from gossamer.runtime.session import InferenceSession

    folder = toy.artifact("wasm", extra="extern float powf(float, float); y[0] = powf(x[1], w[1]);")
    x = np.full((2, toy.size // 2), 3, np.float32)
    with InferenceSession(folder) as session:
        assert session.run(None, {"x": x})[0][0] == pytest.approx(float(np.power(x[0, 1], toy.weights[1])))


def test_wasm_artifacts_bring_the_web_runtime(toy: Any) -> None:
    assert {"gossamer.js", "index.html"} <= files(toy.artifact("wasm"))


@pytest.mark.parametrize("target", ["host", "wasm", "arm64-apple"])
def test_the_manifest_can_be_read_and_lists_every_file(toy: Any, target: str) -> None:
    folder = toy.artifact(target, threads=3)
    text = (folder / "manifest.json").read_bytes()
    manifest = parse_manifest(text)
    assert set(manifest.files) == files(folder) - {"manifest.json"}
    for name, spec in manifest.files.items():
        data = (folder / name).read_bytes()
        assert (spec.bytes, spec.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert manifest.to_json().encode() == text
    assert manifest.threads == 3
    assert json.loads(text)["layers"][0]["operator"] == "Mul"


def test_embedded_weights_leave_no_file(toy: Any) -> None:
    folder = toy.artifact("host", embed_weights=True)
    assert "weights.bin" not in files(folder)
    assert open_artifact(folder).manifest.weights.file is None
    assert toy.weights.tobytes() in (folder / "model.so").read_bytes()


def test_building_twice_gives_the_same_bytes(toy: Any, tmp_path: Path) -> None:
    target = find_target("host")
    objects = toy.objects(target)
    first, second = (build_artifact(toy.program(), objects, target, tmp_path / name) for name in "ab")
    for name in files(first):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_code_that_calls_a_foreign_function_is_refused_by_name(toy: Any, tmp_path: Path) -> None:
    target = find_target("host")
    objects = toy.objects(target, extra="extern void stranger(void); stranger();")
    with pytest.raises(JobError, match="stranger"):
        build_artifact(toy.program(), objects, target, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_objects_must_be_those_of_the_target(toy: Any, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="variants"):
        build_artifact(toy.program(), {"model": b""}, find_target("wasm"), tmp_path / "out")


def test_a_wrong_number_of_threads_is_refused(toy: Any, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="threads"):
        build_artifact(toy.program(), {"model": b""}, find_target("host"), tmp_path / "out", threads=0)
