"""`python -m gossamer.tools.fuzzing`: mutate models or artifacts; faults are told, and such models kept."""

from __future__ import annotations

import json
import random
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import typer

from gossamer.runtime.errors import JobError

from ..console import note
from ..failing import run_alone
from .artifacts import fuzz_artifact
from .compiling import SOUND, try_model, warm_up
from .guarding import Limits
from .mutations import mutated
from .seeds import read_seeds, written_seeds

__all__ = ["command"]


def command(
    given: list[Path] = typer.Argument(
        None, metavar="[MODEL|ARTIFACT]...", help="Models, or folders of them, to mutate too; or artifacts."
    ),
    count: int = typer.Option(1000, "--count", help="How many mutants."),
    seed: int = typer.Option(0, "--seed", help="The same seed gives the same mutants."),
    keep: Path | None = typer.Option(None, "--keep", metavar="FOLDER", help="Where models with a fault go."),
    memory_gb: int = typer.Option(3, "--memory-gb", help="What one mutant may take."),
) -> None:
    """Mutate models or artifacts; each must be refused in one line, or give the right answer."""
    limits = Limits(memory=memory_gb << 30)
    artifacts = [path for path in given or [] if (path / "manifest.json").exists()]
    counts = Counter[str]()
    for folder in artifacts:
        counts.update(fuzz_artifact(folder, count, seed, limits))
    if not artifacts:
        counts.update(_fuzz_models(given or [], count, seed, limits, keep))
    print(json.dumps(counts))
    faults = counts.total() - sum(counts[kind] for kind in SOUND)
    if faults:
        raise JobError(f"{faults} of {counts.total()} mutants had a fault")


def _fuzz_models(
    paths: Sequence[Path], count: int, seed: int, limits: Limits, keep: Path | None
) -> Counter[str]:
    """How many mutants ended in which way; messages of faults are shown once for each kind."""
    seeds = {**written_seeds(), **dict(read_seeds(paths))}
    names = sorted(seeds)
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    warm_up(seeds["images"].SerializeToString())
    counts, seen = Counter[str](), Counter[str]()
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        name = names[rng.randrange(len(names))]
        data = mutated(seeds[name], rng)
        verdict = try_model(data, limits)
        counts[verdict.kind] += 1
        if verdict.kind not in SOUND or verdict.kind == "stumbled":
            signature = re.sub(r"'[^']*'|[0-9]+", "", verdict.text)[:160]
            seen[signature] += 1
            if seen[signature] == 1:
                note(f"{number} {name}: {verdict.kind}: {verdict.text}")
            if keep is not None and seen[signature] <= 3:
                (keep / f"{verdict.kind}-{seed}-{number}.onnx").write_bytes(data)
        if number % 200 == 199:
            note(f"{number + 1}: {dict(counts)}")
    return counts


if __name__ == "__main__":
    sys.exit(run_alone(command))
