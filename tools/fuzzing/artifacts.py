"""Mutated artifacts opened by the three runtimes: each is refused in one line, or runs as the sound one."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import tempfile
from collections import Counter
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.kernels.building.native import RUNTIME_FILES
from gossamer.kernels.building.toolchain import runtime_source
from gossamer.runtime.artifact import open_artifact
from gossamer.runtime.errors import JobError
from gossamer.runtime.feeds import random_feeds
from gossamer.runtime.node import node_command
from gossamer.runtime.session import InferenceSession

from ..console import note
from .guarding import Limits, guarded
from .mutations import damaged

__all__ = ["fuzz_artifact", "mutated_json"]

Array = np.ndarray[Any, np.dtype[Any]]
_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1,
    0.5,
    2**31,
    2**53,
    2**70,
    1e300,
    "",
    "x",
    "../x",
    "/etc/passwd",
    [],
    {},
    "a" * 5000,
)


def fuzz_artifact(folder: Path, count: int, seed: int, limits: Limits) -> Counter[str]:
    """How `count` mutants of the artifact ended: in Node for WebAssembly, else in Python and in C."""
    manifest = open_artifact(folder).manifest
    if manifest.target.family == "wasm":
        return _in_node(folder, count, seed)
    feeds, expected = _sound_outputs(folder)
    counts = Counter[str]()
    for number in range(count):
        kind, text = _try(folder, feeds, expected, random.Random(f"{seed}/{number}"), limits)
        counts[kind] += 1
        if kind not in ("refused", "right"):
            note(f"{number}: {kind}: {text}")
    return counts + _in_c(folder, count, seed)


def _in_node(folder: Path, count: int, seed: int) -> Counter[str]:
    runtime = Path(str(files("gossamer.runtime"))) / "web" / "dist" / "gossamer.js"
    driver = Path(__file__).with_name("artifact_driver.mjs")
    command = [*node_command(), str(driver), str(runtime), str(folder), str(count), str(seed)]
    found = json.loads(_printed(command))
    # a manifest may name fewer outputs than the code has, or other types: its hashes are not signed
    return Counter(refused=found["refused"], right=found["right"] + found.get("other", 0))


def _in_c(folder: Path, count: int, seed: int) -> Counter[str]:
    """The manifest alone, under the sanitizers of a C compiler; nothing where there is none."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        note("no C compiler with sanitizers: the C runtime was left out")
        return Counter()
    sources = [Path(__file__).with_name("manifest_driver.c"), *map(runtime_source, RUNTIME_FILES)]
    flags = ["-std=gnu11", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    flags += [f"-DMODEL=gossamer_model_{open_artifact(folder).manifest.symbol}", f"-I{sources[1].parent}"]
    with tempfile.TemporaryDirectory(prefix="gossamer-fuzz-") as scratch:
        driver = f"{scratch}/driver"
        # the library comes last: it gives the model alone, since the runtime above is there already
        libraries = [str(folder / "libmodel.a"), "-lpthread", "-lm"]
        _printed([compiler, *flags, *map(str, sources), *libraries, "-o", driver])
        words = _printed([driver, str(folder / "manifest.json"), str(count), str(seed)]).split()
    refused = int(words[0])
    return Counter(refused=refused, right=count - refused)


def _printed(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise JobError("failed", where=Path(command[0]).name, got=(done.stderr or done.stdout)[-2000:])
    return done.stdout


def mutated_json(value: Any, rng: random.Random) -> Any:
    """A copy of JSON data with one part changed, removed, repeated, or replaced by another part of it."""
    copy = json.loads(json.dumps(value))
    places = list(_places(copy))
    holder, key = rng.choice(places)
    match rng.randrange(5):
        case 0:
            del holder[key]
        case 1:
            holder[key] = rng.choice(_VALUES)
        case 2:
            other, place = rng.choice(places)
            holder[key] = json.loads(json.dumps(other[place]))
        case 3 if isinstance(holder[key], int) and not isinstance(holder[key], bool):
            holder[key] += rng.choice((-64, -1, 1, 64, holder[key]))
        case _:
            if isinstance(holder[key], list):
                holder[key] = holder[key] * rng.choice((2, 40))
            else:
                holder[key] = [holder[key]]
    return copy


def _places(value: Any) -> Any:
    """Every holder and key below `value`."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from _places(value[key])


def _sound_outputs(folder: Path) -> tuple[dict[str, Array], list[Array]]:
    """Feeds of the artifact, and what it gives for them."""
    feeds = random_feeds(open_artifact(folder).manifest.inputs)
    with InferenceSession(folder) as session:
        return feeds, session.run(None, feeds)


def _try(
    folder: Path, feeds: dict[str, Array], expected: list[Array], rng: random.Random, limits: Limits
) -> tuple[str, str]:
    """A verdict, as of models, on a mutant of the artifact in `folder`."""
    with tempfile.TemporaryDirectory(prefix="gossamer-fuzz-") as scratch:
        mutant = Path(scratch) / "artifact"
        shutil.copytree(folder, mutant)
        _mutate(mutant, rng)
        outcome = guarded(partial(_run, mutant, feeds), limits)
    if outcome.kind != "done":
        return outcome.kind, outcome.text
    same = len(outcome.value) == len(expected) and all(map(np.array_equal, outcome.value, expected))
    return ("right", "") if same else ("wrong", "the outputs are others")


def _mutate(folder: Path, rng: random.Random) -> None:
    manifest = folder / "manifest.json"
    if rng.random() < 0.15:
        file = rng.choice(sorted(folder.iterdir()))
        file.write_bytes(damaged(file.read_bytes(), rng))
    elif rng.random() < 0.2:
        manifest.write_bytes(damaged(manifest.read_bytes(), rng))
    else:
        data = json.loads(manifest.read_text(encoding="utf-8"))
        for _ in range(rng.choice((1, 1, 2, 3))):
            data = mutated_json(data, rng) if data else data
        manifest.write_text(json.dumps(data), encoding="utf-8")


def _run(folder: Path, feeds: dict[str, Array]) -> list[Array]:
    with InferenceSession(folder, threads=1) as session:
        return session.run(None, feeds)
