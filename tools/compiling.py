"""`gossamer.compile`: from a model to verified artifact folders."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gossamer.kernels.targets import Target, find_target
from gossamer.runtime.errors import OptionError
from gossamer.runtime.specs import LedgerSpec

from .checking import Check, require_agreement
from .console import Progress
from .options import check_parent

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from gossamer.kernels.lowering.ways import Tuner
    from gossamer.kernels.program import LayerInfo
    from gossamer.runtime.session import InferenceSession

    from .verifying import Reference

    Source = str | Path | bytes | onnx.ModelProto | ir.Model

__all__ = ["Artifact", "CompileOptions", "compile", "compile_targets"]


@dataclass(frozen=True)
class CompileOptions:
    """What every target of one compilation shares; `input_shapes` gives open dimensions numbers or bounds."""

    cpu: str | None = None
    threads: int = 1
    input_shapes: Mapping[str, Sequence[int | str]] = field(default_factory=dict)
    embed_weights: bool = False
    verify: bool = True
    tune: bool = False
    progress: Progress = lambda label, done, total: None


@dataclass(frozen=True)
class Artifact:
    """One built folder; `checks` is empty when verification was switched off."""

    path: Path
    target: Target
    layers: tuple[LayerInfo, ...]
    arena_bytes: int
    ledger: LedgerSpec
    checks: tuple[Check, ...] = ()

    def __fspath__(self) -> str:
        return str(self.path)

    def session(self, threads: int | None = None) -> InferenceSession:
        """Open it on this machine. Raises ArtifactError when it is for another."""
        from gossamer.runtime.session import InferenceSession

        return InferenceSession(self.path, threads=threads)

    def sizes(self) -> dict[str, int]:
        """Bytes of the code that runs, of the weights beside it, and of a session's arena.

        Of several code files (WebAssembly's variants; a shared and a static library) the smallest counts.
        """
        from gossamer.runtime.manifest import read_manifest

        manifest = read_manifest(self.path / "manifest.json")
        code = [c.file for c in manifest.code if c.role in ("shared", "wasm")]
        code = code or [c.file for c in manifest.code if c.role in ("object", "static")]
        return {
            "code_bytes": min(manifest.files[file].bytes for file in code),
            "weight_bytes": manifest.weights.bytes if manifest.weights.file else 0,
            "arena_bytes": manifest.arena_bytes,
        }

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {
            "path": str(self.path),
            "target": self.target.name,
            "verified": any(check.where for check in self.checks),
            "checks": [check.to_dict() for check in self.checks],
            **self.sizes(),
            "layers": [asdict(layer) for layer in self.layers],
            "ledger": asdict(self.ledger),
        }


def compile(
    model: Source,
    target: str = "host",
    out: str | Path | None = None,
    *,
    cpu: str | None = None,
    threads: int = 1,
    input_shapes: Mapping[str, Sequence[int | str]] | None = None,
    embed_weights: bool = False,
    verify: bool = True,
    tune: bool = False,
) -> Artifact:
    """Compile a model for one target, and check the result against onnxruntime where this machine can.

    `tune` measures for every layer which kernel is fastest on this machine, for the target "host" alone.

    Without `out` the artifact lies in a temporary folder that goes with the returned object.
    Raises InputError for a model or an option that cannot be taken, JobError when a check fails.
    """
    options = CompileOptions(cpu, threads, input_shapes or {}, embed_weights, verify, tune)
    if out is not None:
        check_parent(Path(out))
        return compile_targets(model, [target], Path(out), options)[0]
    holder = tempfile.mkdtemp(prefix="gossamer-")
    try:
        artifact = compile_targets(model, [target], Path(holder) / "artifact", options)[0]
    except BaseException:
        shutil.rmtree(holder, ignore_errors=True)
        raise
    weakref.finalize(artifact, shutil.rmtree, holder, ignore_errors=True)
    return artifact


def compile_targets(
    model: Source, names: Sequence[str], out: Path, options: CompileOptions
) -> list[Artifact]:
    """Compile for every target in `names`; one is written to `out`, several to `out`/NAME.

    Loading and preparing are done once. `out` appears whole, after every check, or not at all.
    Raises as `compile` does.
    """
    from gossamer.kernels.building.publishing import published_folder

    targets = [find_target(name, options.cpu) for name in names]
    _check_threads(options.threads)
    if options.tune:
        _check_tunable(targets)
    steps = _Steps(options.progress, 2 + 3 * len(targets))
    front = _Front(model, options, steps)
    with published_folder(out) as staging:
        built = [
            _build(front, target, staging / target.name if len(targets) > 1 else staging, options, steps)
            for target in targets
        ]
    return [replace(a, path=out / a.path.relative_to(staging)) for a in built]


def _check_threads(threads: int) -> None:
    from gossamer.runtime.manifest import MOST_THREADS

    if not 1 <= threads <= MOST_THREADS:
        raise OptionError("wrong number of threads", expected=f"1..{MOST_THREADS}", got=threads)


def _check_tunable(targets: Sequence[Target]) -> None:
    for target in targets:
        if target.name != "host":
            raise OptionError(
                "tuning measures on the machine that compiles",
                where="--tune",
                expected="target host alone",
                got=target.name,
            )


class _Steps:
    """Counts the steps of a job for a progress line."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._done, self._total = progress, 0, total

    def __call__(self, label: str) -> None:
        self._progress(label, self._done, self._total)
        self._done += 1

    def detail(self, label: str) -> None:
        """Says what the step under way is doing."""
        self._progress(label, self._done, self._total)


class _Front:
    """What every target shares: the prepared model, and what onnxruntime gives for the one handed in."""

    def __init__(self, model: Source, options: CompileOptions, steps: _Steps) -> None:
        from gossamer.passes.clean import prepare
        from gossamer.passes.loading import load_model

        steps("loading")
        loaded = load_model(model)
        steps("preparing")
        self.prepared = prepare(loaded, options.input_shapes)
        self._source = loaded if isinstance(model, bytes) else model

    @cached_property
    def reference(self) -> Reference:
        """Computed when the first target is checked."""
        from .verifying import Reference

        return Reference(self._source, self.prepared)


def _tuner(steps: _Steps) -> Tuner:
    from gossamer.kernels.tuning import MeasuringTuner

    return MeasuringTuner(note=lambda layer: steps.detail(f"measuring {layer}"))


def _build(front: _Front, target: Target, place: Path, options: CompileOptions, steps: _Steps) -> Artifact:
    from gossamer.kernels.building import fill_artifact
    from gossamer.kernels.lowering import emit_objects, lower

    steps(f"{target.name}: generating code")
    program = lower(front.prepared, target, _tuner(steps) if options.tune else None)
    objects = emit_objects(program, target)
    steps(f"{target.name}: linking")
    place.mkdir(exist_ok=True)
    fill_artifact(
        program, objects, target, place, embed_weights=options.embed_weights, threads=options.threads
    )
    artifact = Artifact(place, target, program.layers, program.arena_bytes, program.ledger)
    if not options.verify:
        return artifact
    from .verifying import check_artifact

    steps(f"{target.name}: verifying")
    checks = tuple(check_artifact(place, target, front.reference))
    require_agreement(target, checks, front.reference.limits)
    return replace(artifact, checks=checks)
