"""Code for ARM runs under qemu where that is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gossamer.kernels.building.emulating import find_emulator, run_emulated, why_not_emulated
from gossamer.runtime.artifact import open_artifact
from gossamer.runtime.errors import ArtifactError, FeedError, JobError

Array = npt.NDArray[Any]
needs_arm64 = pytest.mark.skipif(find_emulator("arm64") is None, reason="needs qemu-aarch64")
needs_arm = pytest.mark.skipif(find_emulator("arm") is None, reason="needs qemu-arm")


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("arm64-linux", marks=needs_arm64),
        pytest.param("arm64-android", marks=needs_arm64),
        pytest.param("armv7-linux", marks=needs_arm),
    ],
)
@pytest.mark.parametrize("embed", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_emulated_code_computes_the_same(
    toy: Any, ramp: Array, target: str, embed: bool, threads: int
) -> None:
    folder = toy.artifact(target, embed_weights=embed)
    result = run_emulated(folder, {"x": ramp}, threads=threads, repeats=3)
    np.testing.assert_array_equal(result.outputs[0], toy.output(ramp))
    assert len(result.nanoseconds) == 3


@needs_arm64
def test_a_failing_emulated_kernel_is_a_failed_job(toy: Any, ramp: Array) -> None:
    ramp[0, 0] = toy.fails_at
    with pytest.raises(JobError, match="a kernel failed"):
        run_emulated(toy.artifact("arm64-linux"), {"x": ramp})


@needs_arm64
def test_wrong_feeds_are_refused_before_anything_runs(toy: Any) -> None:
    with pytest.raises(FeedError):
        run_emulated(toy.artifact("arm64-linux"), {})


@pytest.mark.parametrize("target", ["wasm", "arm64-apple", "host"])
def test_what_cannot_be_emulated_says_why(toy: Any, ramp: Array, target: str) -> None:
    artifact = open_artifact(toy.artifact(target))
    if artifact.manifest.target.family == "arm64" and target == "host":
        pytest.skip("the host is an ARM machine")
    reason = why_not_emulated(artifact)
    assert reason is not None
    assert artifact.manifest.target.triple in reason
    with pytest.raises(ArtifactError, match="cannot be emulated"):
        run_emulated(artifact, {"x": ramp})


def test_a_missing_emulator_is_named(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    reason = why_not_emulated(open_artifact(toy.artifact("arm64-linux")))
    assert reason is not None
    assert "qemu-aarch64" in reason
