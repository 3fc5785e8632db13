"""A bounded part of the fuzzing that CONTRIBUTING.md describes, with a fixed seed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.passes.loading import load_model
from gossamer.passes.reference import onnx_io, run_onnx
from gossamer.runtime.errors import ArtifactError, ModelError
from gossamer.runtime.feeds import random_feeds
from gossamer.runtime.manifest import parse_manifest
from gossamer.runtime.node import node_available
from gossamer.tools.fuzzing.artifacts import mutated_json
from gossamer.tools.fuzzing.mutations import damaged, mutated
from gossamer.tools.fuzzing.seeds import written_seeds

SEEDS = written_seeds()


@pytest.fixture(scope="module", params=sorted(SEEDS))
def seed(request: pytest.FixtureRequest) -> onnx.ModelProto:
    return SEEDS[request.param]


def test_the_models_to_mutate_are_sound(seed: onnx.ModelProto) -> None:
    load_model(seed)
    run_onnx(seed, random_feeds(onnx_io(seed)[0]))


@given(st.sampled_from(sorted(SEEDS)), st.integers(0, 2**32))
@settings(max_examples=80, deadline=None, derandomize=True, database=None)
def test_mutated_models_load_or_are_refused_in_one_line(name: str, number: int) -> None:
    said = ""
    try:
        load_model(mutated(SEEDS[name], random.Random(number)))
    except ModelError as error:
        said = str(error)
    assert said == "" or said.isprintable()
    assert len(said) < 1500


@given(st.integers(0, 2**32))
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_mutated_manifests_are_read_or_refused_in_one_line(number: int) -> None:
    rng = random.Random(number)
    text = json.dumps(MANIFEST) if rng.random() < 0.3 else json.dumps(mutated_json(MANIFEST, rng))
    data = damaged(text.encode(), rng) if rng.random() < 0.3 else text.encode()
    said = ""
    try:
        parse_manifest(data)
    except ArtifactError as error:
        said = str(error)
    assert said == "" or said.isprintable()
    assert len(said) < 1500


DIGEST = "0" * 64
MANIFEST: dict[str, Any] = {
    "format": "gossamer-artifact",
    "version": 3,
    "name": "m",
    "gossamer": "0",
    "target": {"name": "host", "triple": "x86_64", "family": "x86", "container": "elf", "requires": ["avx2"]},
    "entry": "gossamer_entry_m",
    "threads": 1,
    "inputs": [{"name": "x", "dtype": "float32", "shape": ["n", 3], "slots": [2, -1]}],
    "outputs": [{"name": "y", "dtype": "int8", "shape": ["2*n"], "slots": [3]}],
    "table": {
        "function": "gossamer_sizes_m",
        "count": 4,
        "symbols": [{"name": "n", "slot": 2, "least": 1, "most": 9}],
        "guards": ["n"],
    },
    "arena_bytes": 0,
    "arena_bound_bytes": 0,
    "scratch_bytes": 0,
    "weights": {"file": "w", "bytes": 64, "sha256": DIGEST, "tensors": [
        {"name": "w", "offset": 0, "bytes": 64, "dtype": "int8", "packing": "raw"}]},
    "code": [{"role": "shared", "file": "c"}],
    "layers": [{"name": "l", "operator": "o", "kernel": "k", "shape": [1]}],
    "steps": [],
    "files": {"w": {"bytes": 64, "sha256": DIGEST}, "c": {"bytes": 1, "sha256": DIGEST}},
}  # fmt: skip


def test_the_manifest_to_mutate_is_sound() -> None:
    assert parse_manifest(json.dumps(MANIFEST).encode()).name == "m"


def fuzzed(*words: object) -> dict[str, int]:
    """How mutants ended, by the command; a fault makes it fail."""
    command = [sys.executable, "-m", "gossamer.tools.fuzzing", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    counts: dict[str, int] = json.loads(done.stdout)
    return counts


def test_mutated_models_are_refused_or_right() -> None:
    counts = fuzzed("--count", 25, "--seed", 0)
    assert sum(counts.values()) == 25


def test_mutated_artifacts_are_refused_or_right(toy: Any) -> None:
    counts = fuzzed(toy.artifact(), "--count", 40)
    assert counts["refused"] > 20
    assert sum(counts.values()) in (40, 80)  # the C runtime reads as many, where there is a compiler


def test_mutated_artifacts_are_refused_or_right_in_node(toy: Any) -> None:
    if reason := node_available():
        pytest.skip(reason)
    folder: Path = toy.artifact("wasm")
    assert fuzzed(folder, "--count", 400)["refused"] > 100
