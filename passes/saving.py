"""Writing a model: it appears whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx_ir as ir

from gossamer.runtime.errors import JobError, OptionError

from .streaming import serialized

__all__ = ["INLINE_LIMIT", "save_model", "written_whole"]

INLINE_LIMIT = 1_900_000_000
"""Bytes of weights that a single file takes; protobuf ends at 2 GiB. Above it weights go to `NAME.data`."""


def save_model(model: ir.Model, path: str | Path) -> None:
    """Write `model` to `path`, replacing what is there in one step.

    The model stays as it is. Weights of more than INLINE_LIMIT bytes go to a second file, `path` + ".data".
    Raises OptionError where the folder does not exist, and JobError when the disk is full or refuses.
    """
    path = Path(path)
    check_parent(path)
    if _weight_bytes(model) > INLINE_LIMIT:
        _save_in_two(model, path)
        return
    with written_whole(path) as aside:
        _write(aside, serialized(in_memory(model)))


def check_parent(path: Path) -> None:
    """Raises OptionError unless a file can be made at `path`."""
    if path.is_dir():
        raise OptionError("is a folder", where=path, expected="the name of a file to write")
    if not path.parent.is_dir():
        raise OptionError(
            "cannot be written, its folder does not exist", where=path, advice=f"make {path.parent} first"
        )


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes `path` when the block ends well and vanishes when it does not."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield aside
        os.replace(aside, path)
        _sync(path.parent)
    except OSError as error:
        raise JobError(f"cannot be written: {error.strerror or error}", where=path) from error
    finally:
        aside.unlink(missing_ok=True)


def in_memory(model: ir.Model) -> ir.Model:
    """The same model with no tensor in another file; a copy unless it has none."""
    if not any(isinstance(v.const_value, ir.ExternalTensor) for v in model.graph.initializers.values()):
        return model
    copy = model.clone()
    for value in copy.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):
            value.const_value = ir.Tensor(value.const_value.numpy(), name=value.name)
    return copy


def _weight_bytes(model: ir.Model) -> int:
    return sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)


def _save_in_two(model: ir.Model, path: Path) -> None:
    data = path.with_name(path.name + ".data")
    # Leaving the inner block renames the data first: a model never names a file that is not there yet.
    with written_whole(path) as aside, written_whole(data) as aside_data:
        stored = ir.external_data.unload_from_model(
            model.clone(), str(path.parent), aside_data.name, size_threshold_bytes=1024
        )
        _sync(aside_data)
        for value in stored.graph.initializers.values():
            if isinstance(tensor := value.const_value, ir.ExternalTensor):
                value.const_value = _at(tensor, data.name)
        _write(aside, [ir.to_proto(stored).SerializeToString()])


def _at(tensor: ir.ExternalTensor, location: str) -> ir.ExternalTensor:
    return ir.ExternalTensor(
        location, tensor.offset, tensor.length, tensor.dtype, shape=tensor.shape, name=tensor.name or ""
    )


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    with path.open("xb") as file:
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
