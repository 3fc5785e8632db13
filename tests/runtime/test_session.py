"""Sessions over native and WebAssembly artifacts."""

from __future__ import annotations

import _ctypes
import ctypes
import gc
import os
import shutil
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gossamer.kernels.building import build_artifact
from gossamer.kernels.targets import find_target
from gossamer.runtime.errors import ArtifactError, FeedError, JobError, OptionError
from gossamer.runtime.library import Library
from gossamer.runtime.session import InferenceSession

Array = npt.NDArray[Any]
BOTH = pytest.mark.parametrize("target", ["host", "wasm"])


@BOTH
@pytest.mark.parametrize("embed", [False, True])
def test_run_computes_the_model(toy: Any, ramp: Array, target: str, embed: bool) -> None:
    with InferenceSession(toy.artifact(target, embed_weights=embed)) as session:
        for _ in range(3):
            (y,) = session.run(None, {"x": ramp})
            np.testing.assert_array_equal(y, toy.output(ramp))


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_any_number_of_threads_computes_the_same(toy: Any, ramp: Array, threads: int) -> None:
    with InferenceSession(toy.artifact(), threads=threads) as session:
        for i in range(200):
            x = ramp + np.float32(i)
            np.testing.assert_array_equal(session.run(None, {"x": x})[0], toy.output(x))


@pytest.mark.parametrize("engine", ["simd", "relaxed"])
def test_both_builds_of_webassembly_run(toy: Any, ramp: Array, engine: str) -> None:
    with InferenceSession(toy.artifact("wasm"), engine=engine) as session:
        np.testing.assert_array_equal(session.run(None, {"x": ramp})[0], toy.output(ramp))


@BOTH
@pytest.mark.parametrize("threads", [1, 3])
def test_a_profile_gives_every_thread_and_kernel_its_times(
    toy: Any, ramp: Array, target: str, threads: int
) -> None:
    threads = 1 if target == "wasm" else threads
    with InferenceSession(toy.artifact(target), threads=threads) as session:
        for _ in range(20):
            times = session.profile({"x": ramp})
            assert times.shape == (threads, 2, 2)
            assert times.dtype == np.int64
            moments = times.reshape(threads, 4)
            assert (moments[:, 0] > 0).all()
            assert (np.diff(moments, axis=1) >= 0).all(), "time goes forward"
            assert (times[:, 0, 1] >= times[:, 0, 0].max()).all(), "nobody leaves before the last has come"
        np.testing.assert_array_equal(session.run(None, {"x": ramp})[0], toy.output(ramp))


def test_a_profile_of_a_failing_run_is_an_error(toy: Any, ramp: Array) -> None:
    ramp[0, 0] = toy.fails_at
    with (
        InferenceSession(toy.artifact(), threads=3) as session,
        pytest.raises(JobError, match="failed"),
    ):
        session.profile({"x": ramp})


@BOTH
def test_inputs_and_outputs_are_described_as_in_onnxruntime(toy: Any, target: str) -> None:
    with InferenceSession(toy.artifact(target)) as session:
        (x,), (y,) = session.get_inputs(), session.get_outputs()
        assert (x.name, x.shape, x.type) == ("x", [2, 12], "tensor(float)")
        assert (y.name, y.shape, y.type) == ("y*/", [24], "tensor(float)")
        assert session.manifest.arena_bytes == 96


@BOTH
def test_outputs_are_chosen_by_name_and_fresh(toy: Any, ramp: Array, target: str) -> None:
    with InferenceSession(toy.artifact(target)) as session:
        first = session.run(["y*/"], {"x": ramp})[0]
        second = session.run(["y*/", "y*/"], {"x": ramp * 2})
        assert len(second) == 2
        np.testing.assert_array_equal(first, toy.output(ramp))
        assert session.run([], {"x": ramp}) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda x: np.asfortranarray(x),
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape),
    ],
    ids=["column-major", "strided", "misaligned"],
)
@BOTH
def test_any_layout_in_memory_is_taken(
    toy: Any, ramp: Array, target: str, change: Callable[[Array], Array]
) -> None:
    with InferenceSession(toy.artifact(target)) as session:
        np.testing.assert_array_equal(session.run(None, {"x": change(ramp)})[0], toy.output(ramp))


@pytest.mark.parametrize(
    ("feeds", "expected"),
    [
        ({}, ["no feed", "expected x", "got none for x"]),
        ({"x": None}, ["feed 'x'", "not an array", "got NoneType"]),
        ({"X": 0, "x": 0}, ["feed 'X'", "not an input", "expected x"]),
        ({"x": np.zeros((2, 12))}, ["feed 'x'", "wrong type", "expected float32", "got float64", "astype"]),
        ({"x": np.zeros((2, 12), ">f4")}, ["feed 'x'", "wrong type", "got >f4"]),
        (
            {"x": np.zeros((2, 13), np.float32)},
            ["feed 'x'", "wrong shape", "expected [2, 12]", "got [2, 13]"],
        ),
        ({"x": np.zeros(24, np.float32)}, ["feed 'x'", "wrong shape", "got [24]"]),
        ([], ["expected a dict", "got list"]),
    ],
)
def test_wrong_feeds_say_which_expected_and_got(toy: Any, feeds: Any, expected: list[str]) -> None:
    with InferenceSession(toy.artifact()) as session, pytest.raises(FeedError) as caught:
        session.run(None, feeds)
    assert all(part in str(caught.value) for part in expected), str(caught.value)


def test_an_unknown_output_is_named(toy: Any, ramp: Array) -> None:
    with InferenceSession(toy.artifact()) as session, pytest.raises(FeedError, match=r"'y'.*y\*/"):
        session.run(["y"], {"x": ramp})


@pytest.mark.parametrize(("target", "threads"), [("host", 1), ("host", 3), ("wasm", None)])
def test_a_failing_kernel_is_an_error_and_the_session_goes_on(
    toy: Any, ramp: Array, target: str, threads: int | None
) -> None:
    bad = ramp.copy()
    bad[0, 0] = toy.fails_at
    with InferenceSession(toy.artifact(target), threads) as session:
        for _ in range(20):
            with pytest.raises(JobError, match="the model failed"):
                session.run(None, {"x": bad})
            np.testing.assert_array_equal(session.run(None, {"x": ramp})[0], toy.output(ramp))


def test_a_trap_in_webassembly_is_an_error(toy: Any, ramp: Array) -> None:
    folder = toy.artifact("wasm", extra="__builtin_trap();")
    with InferenceSession(folder) as session, pytest.raises(JobError, match="the model failed"):
        session.run(None, {"x": ramp})


@BOTH
def test_one_session_serves_several_threads(toy: Any, ramp: Array, target: str) -> None:
    with InferenceSession(toy.artifact(target)) as session, ThreadPoolExecutor(8) as pool:
        inputs = [ramp + np.float32(i) for i in range(200)]
        for x, y in zip(inputs, pool.map(lambda x: session.run(None, {"x": x})[0], inputs), strict=True):
            np.testing.assert_array_equal(y, toy.output(x))


def test_a_run_lets_other_python_threads_go_on(toy: Any, ramp: Array) -> None:
    spin = "if (x[0] < -1e20f) while (*(volatile float *)x < 0) {}"
    x = ramp.copy()
    x[0, 0] = -1e21  # the run ends when another thread of Python makes this positive
    with InferenceSession(toy.artifact(extra=spin)) as session:
        release = threading.Timer(0.05, lambda: x.__setitem__((0, 0), 1))
        release.start()
        session.run(None, {"x": x})
        release.join()


@BOTH
def test_a_closed_session_refuses_to_run(toy: Any, ramp: Array, target: str) -> None:
    session = InferenceSession(toy.artifact(target))
    session.close()
    session.close()
    with pytest.raises(JobError, match="closed"):
        session.run(None, {"x": ramp})


def test_many_sessions_of_two_models_live_side_by_side(toy: Any, ramp: Array) -> None:
    folders = [toy.artifact(), toy.artifact(name="other"), toy.artifact(embed_weights=True)]
    sessions = [InferenceSession(folder, threads=1 + i % 2) for i, folder in enumerate(folders * 3)]
    for session in sessions:
        np.testing.assert_array_equal(session.run(None, {"x": ramp})[0], toy.output(ramp))
        session.close()


def test_a_forgotten_session_frees_its_memory_and_files(toy: Any) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    session = InferenceSession(toy.artifact(), threads=2)
    gone = weakref.ref(session)
    del session
    gc.collect()
    assert gone() is None
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


def test_an_artifact_replaced_under_an_open_session_is_loaded_anew(
    toy: Any, ramp: Array, tmp_path: Path
) -> None:
    target = find_target("host")
    out = build_artifact(toy.program(), toy.objects(target), target, tmp_path / "out")
    with InferenceSession(out) as old, InferenceSession(out) as same:
        build_artifact(toy.program(), toy.objects(target, extra="y[0] = 42.0f;"), target, out)
        with InferenceSession(out) as new:
            assert new.run(None, {"x": ramp})[0][0] == 42
            np.testing.assert_array_equal(old.run(None, {"x": ramp})[0], toy.output(ramp))
        old.close()
        with InferenceSession(out) as new:
            assert new.run(None, {"x": ramp})[0][0] == 42
            np.testing.assert_array_equal(same.run(None, {"x": ramp})[0], toy.output(ramp))


def test_a_model_without_weights_runs(toy: Any, ramp: Array, tmp_path: Path) -> None:
    for target_name, embed in (("host", False), ("host", True), ("wasm", False), ("wasm", True)):
        target = find_target(target_name)
        program = toy.program(weights=b"", weight_table=())
        objects = toy.objects(target, weight="2.0f")
        out = build_artifact(
            program, objects, target, tmp_path / f"{target_name}{embed}", embed_weights=embed
        )
        with InferenceSession(out) as session:
            np.testing.assert_array_equal(session.run(None, {"x": ramp})[0], ramp.reshape(-1) * 2 + 1)


def test_wrong_options_are_refused(toy: Any) -> None:
    for target, options, words in (
        ("host", {"threads": 0}, "1..16"),
        ("host", {"threads": 17}, "got 17"),
        ("host", {"engine": "simd"}, "only WebAssembly"),
        ("wasm", {"threads": 2}, "one thread"),
        ("wasm", {"engine": "fast"}, "simd"),
    ):
        with pytest.raises(OptionError, match=words):
            InferenceSession(toy.artifact(target), **options)


def test_code_for_another_processor_is_refused_with_advice(toy: Any) -> None:
    other = "arm64-linux" if find_target("host").family == "x86" else "x86-64-v2"
    with pytest.raises(ArtifactError, match=r"cannot run.*--target host"):
        InferenceSession(toy.artifact(other))


def test_code_without_a_shared_library_is_refused_with_advice(toy: Any) -> None:
    with pytest.raises(ArtifactError, match=r"no shared library.*link"):
        InferenceSession(toy.artifact("arm64-apple"))


ALONE = """
import sys
from importlib.abc import MetaPathFinder

class Blocker(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in ("numpy", "__editable___gossamer_0_1_0_finder"):
            return None
        if name == "gossamer" or name.startswith("gossamer.runtime"):
            return None
        raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Blocker())
import numpy as np
import gossamer
session = gossamer.InferenceSession(sys.argv[1])
x = np.arange(24, dtype=np.float32).reshape(2, 12)
print(session.run(None, {"x": x})[0].sum())
assert {name for name in sys.modules if name.startswith("gossamer.")} <= {"gossamer.runtime"} | {
    name for name in sys.modules if name.startswith("gossamer.runtime.")
}
"""


def test_native_artifacts_need_numpy_alone(toy: Any, ramp: Array) -> None:
    command = [sys.executable, "-c", ALONE, str(toy.artifact())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(float(toy.output(ramp).sum()))


def test_webassembly_without_wasmtime_says_what_to_install(toy: Any) -> None:
    command = [sys.executable, "-c", ALONE, str(toy.artifact("wasm"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "pip install 'gossamer[wasm]'" in done.stderr.splitlines()[-1]


def test_a_library_that_others_keep_loaded_is_not_taken_for_another(toy: Any, tmp_path: Path) -> None:
    """The loader knows libraries by the names of descriptors too, which are numbers that come again."""
    files = [tmp_path / "first.so", tmp_path / "second.so"]
    for file in files:
        shutil.copy(toy.artifact() / "model.so", file)
    kept = ctypes.CDLL(str(files[0]))
    first = Library.load(files[0])
    assert first.code._handle == kept._handle
    first.close()
    second = Library.load(files[1])
    assert second.code._handle != kept._handle
    second.close()
    _ctypes.dlclose(kept._handle)
