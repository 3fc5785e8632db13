"""`python -m gossamer.tools.fuzzing`: mutate models until told to stop; every fault is kept."""

from __future__ import annotations

import random
import re
import sys
from collections import Counter
from pathlib import Path

import typer

from gossamer.runtime.errors import JobError

from ..console import note
from ..failing import run_alone
from .compiling import SOUND, try_model, warm_up
from .guarding import Limits
from .mutations import mutated
from .seeds import read_seeds, written_seeds

__all__ = ["command"]


def command(
    models: list[Path] = typer.Argument(None, metavar="[MODELS]...", help="Files or folders to mutate too."),
    count: int = typer.Option(1000, "--count", help="How many mutants."),
    seed: int = typer.Option(0, "--seed", help="The same seed gives the same mutants."),
    keep: Path | None = typer.Option(None, "--keep", metavar="FOLDER", help="Where mutants with a fault go."),
    memory_gb: int = typer.Option(3, "--memory-gb", help="What one mutant may take."),
) -> None:
    """Mutate models; each must be refused in one line or give onnxruntime's answer."""
    seeds = {**written_seeds(), **dict(read_seeds(models or []))}
    names = sorted(seeds)
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    warm_up(seeds["images"].SerializeToString())
    counts, seen = Counter[str](), Counter[str]()
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        name = names[rng.randrange(len(names))]
        data = mutated(seeds[name], rng)
        verdict = try_model(data, Limits(memory=memory_gb << 30))
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
    print(dict(counts))
    faults = counts.total() - sum(counts[kind] for kind in SOUND)
    if faults:
        raise JobError(f"{faults} of {count} mutants had a fault", got=f"{len(seen)} kinds of messages")


if __name__ == "__main__":
    sys.exit(run_alone(command))
