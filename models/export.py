"""From a zoo model in PyTorch to a checked ONNX file."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from ast import literal_eval
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from gossamer.runtime.errors import JobError, OptionError, nearest

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir
    import torch

__all__ = ["ZooModel", "export_model", "export_module", "find_zoo_model", "zoo_names"]

_OPSET = 18
_TIDY = ("lift-constants", "fold-constants", "remove-identities", "remove-unused")
"""Passes that take away what the exporter leaves, such as shapes computed from shapes; batch norms stay."""
_SCOPES = "pkg.torch.onnx.name_scopes"
_TOLERANCE = 1e-4
"""Largest error against PyTorch, in units of the output's spread: two engines sum in different orders."""


class ZooModel(Protocol):
    """What a file of the zoo gives."""

    SUMMARY: str
    OUTPUTS: tuple[str, ...]

    @staticmethod
    def build(**options: Any) -> torch.nn.Module:
        """The network in evaluation mode, with the same weights on every machine."""

    @staticmethod
    def samples() -> dict[str, torch.Tensor]:
        """Valid inputs by name, in the order of `forward`; their shapes become the file's."""


@cache
def zoo_names() -> tuple[str, ...]:
    """Names of every zoo model, sorted; PyTorch is not imported."""
    files = (Path(__file__).parent / "zoo").glob("[a-z]*.py")
    return tuple(sorted(file.stem.replace("_", "-") for file in files))


def find_zoo_model(name: str) -> ZooModel:
    """The zoo's module of that name, with dashes or underscores. Raises OptionError naming the nearest."""
    wanted = name.replace("_", "-")
    if wanted not in zoo_names():
        raise OptionError(
            "unknown model",
            where=name,
            expected="one of " + ", ".join(zoo_names()),
            advice=nearest(wanted, zoo_names()),
        )
    try:
        return cast(ZooModel, import_module(f".zoo.{wanted.replace('-', '_')}", __package__))
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise JobError("PyTorch is not installed", advice="pip install 'gossamer[models]'") from None


def export_model(name: str, path: str | Path) -> Path:
    """Write the zoo model `name` to `path` as one ONNX file, its outputs checked against PyTorch; the path.

    Raises OptionError for an unknown name or a missing folder, JobError where the export fails or differs.
    """
    from gossamer.passes.saving import check_parent

    zoo, path = find_zoo_model(name), Path(path)
    check_parent(path)
    return export_module(zoo.build(), zoo.samples(), zoo.OUTPUTS, path)


def export_module(
    network: torch.nn.Module,
    samples: Mapping[str, torch.Tensor],
    outputs: tuple[str, ...],
    path: Path,
) -> Path:
    """Export any module, traced and checked with `samples`, to `path`; as `export_model` otherwise."""
    from gossamer.passes.loading import load_model, save_model
    from gossamer.passes.recipe import Recipe
    from gossamer.passes.running import run_passes

    model = load_model(_to_onnx(network, samples, outputs))
    run_passes(model, Recipe("export", tuple((name, {}) for name in _TIDY)))
    _check_against_torch(network, samples, model, outputs)
    save_model(model, path)
    return path


def _to_onnx(
    network: torch.nn.Module, samples: Mapping[str, torch.Tensor], outputs: tuple[str, ...]
) -> onnx.ModelProto:
    import torch

    try:
        with _silence():
            program = torch.onnx.export(
                network,
                tuple(samples.values()),
                input_names=list(samples),
                output_names=list(outputs),
                opset_version=_OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
                optimize=False,
            )
    except Exception as error:
        # torch raises a class of its own for each stage of the export.
        raise JobError(f"PyTorch cannot export the model: {type(error).__name__}: {error}") from error
    if program is None:
        raise JobError("PyTorch gave no ONNX model")
    return _without_traces(program.model_proto)


def _without_traces(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with nodes called after their modules, and without the notes that name files of this
    machine."""
    for node in proto.graph.node:
        notes = {entry.key: entry.value for entry in node.metadata_props}
        scopes = [scope for scope in literal_eval(notes.get(_SCOPES, "[]")) if scope]
        node.name = f"{scopes[-2]}/{node.op_type}" if len(scopes) > 1 else node.op_type
        del node.metadata_props[:]
        node.ClearField("doc_string")
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del value.metadata_props[:]
    del proto.graph.metadata_props[:]
    del proto.metadata_props[:]
    return proto


def _check_against_torch(
    network: torch.nn.Module, samples: Mapping[str, torch.Tensor], model: ir.Model, outputs: tuple[str, ...]
) -> None:
    import torch

    from gossamer.passes.reference import run_onnx
    from gossamer.runtime.comparing import tensor_error

    with torch.no_grad():
        result = network(*samples.values())
    expected = [result] if isinstance(result, torch.Tensor) else list(result)
    got = run_onnx(model, {name: sample.numpy() for name, sample in samples.items()})
    for name, ours, theirs in zip(outputs, expected, got, strict=True):
        error = tensor_error(ours.numpy(), theirs).relative
        if not error <= _TOLERANCE:
            raise JobError(
                "the exported model differs from PyTorch",
                where=f"output {name!r}",
                expected=f"at most {_TOLERANCE:g} of the spread",
                got=f"{error:.3g}",
            )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The exporter prints, warns and logs of its own progress; what fails is raised."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
