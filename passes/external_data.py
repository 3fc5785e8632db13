"""Weights in files beside the model: they stay inside its folder and are what the model says they are."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PureWindowsPath

import onnx
from onnx import TensorProto

from gossamer.runtime.errors import ModelError

from .stored_tensors import tensor_bytes, tensors_of

__all__ = ["check_external_data"]

_DIGESTS = {40: "sha1", 64: "sha256"}
_SMALL = 4096
"""Bytes of a tensor that is not worth mapping; ONNX's checker opens the files of those up to 1,000 bytes."""
_NUMBER = re.compile("[0-9]{1,19}")
_COPY_ADVICE = "copy the data file into the model's folder"


def check_external_data(proto: onnx.ModelProto, folder: Path | None) -> None:
    """Check where each external tensor lies, its length and its checksum; raises ModelError.

    Small tensors, and those outside the main graph's initializers, are read into the model.
    """
    mapped = len(proto.graph.initializer)
    digests: dict[Path, dict[str, str]] = {}
    for index, tensor in enumerate(tensors_of(proto)):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        if folder is None:
            raise ModelError(
                "a tensor's data is in another file, which the bytes of a model cannot name",
                where=tensor.name,
                advice="load the model from its path",
            )
        entries = {entry.key: entry.value for entry in tensor.external_data}
        path = _data_file(tensor.name, entries.get("location", ""), folder)
        offset = _check_extent(tensor, entries, path)
        _check_digest(tensor.name, entries.get("checksum"), path, digests)
        if index >= mapped or tensor_bytes(tensor) <= _SMALL:
            _inline(tensor, path, offset)


def _data_file(name: str, location: str, folder: Path) -> Path:
    where = f"{name} in {location!r}"
    as_windows = PureWindowsPath(location)
    if not location or "\0" in location or location.startswith(("/", "\\")) or as_windows.drive:
        raise ModelError("external data needs a path relative to the model", where=where)
    if ".." in as_windows.parts:
        raise ModelError("external data lies outside the model's folder", where=where, advice=_COPY_ADVICE)
    try:
        root, path = folder.resolve(), (folder / location).resolve()
    except (OSError, RuntimeError):
        raise ModelError("external data is a link that leads nowhere", where=where) from None
    if not path.is_relative_to(root):
        raise ModelError(
            "external data is a link out of the model's folder", where=where, advice=_COPY_ADVICE
        )
    if not path.exists():
        raise ModelError("the file of external data is missing", where=where, expected=f"in {folder}")
    if not path.is_file():
        raise ModelError("external data is not a regular file", where=where)
    if path.stat().st_nlink > 1:
        # A hard link can name a file outside the folder, and no path tells so.
        raise ModelError("the file of external data has several hard links", where=where, advice=_COPY_ADVICE)
    return path


def _check_extent(tensor: TensorProto, entries: dict[str, str], path: Path) -> int:
    expected = tensor_bytes(tensor)
    given = entries.get("offset", "0"), entries.get("length", str(expected))
    if not all(_NUMBER.fullmatch(text) for text in given):
        raise ModelError(
            "external data has no readable offset and length",
            where=tensor.name,
            expected="whole numbers",
            got=", ".join(given),
        )
    offset, length = map(int, given)
    size = path.stat().st_size
    if length != expected:
        raise ModelError(
            "external data does not fill its tensor",
            where=tensor.name,
            expected=f"{expected} bytes for {list(tensor.dims)}",
            got=length,
        )
    if offset + length > size:
        raise ModelError(
            "the file of external data is too short",
            where=f"{tensor.name} in {path.name!r}",
            expected=f"bytes {offset} to {offset + length}",
            got=f"{size} bytes",
        )
    return offset


def _check_digest(name: str, checksum: str | None, path: Path, known: dict[Path, dict[str, str]]) -> None:
    """ONNX stores the SHA-1 of the whole file; SHA-256 is taken too."""
    if not checksum:
        return
    kind = _DIGESTS.get(len(checksum))
    if kind is None:
        raise ModelError("external data has an unknown kind of checksum", where=name, got=checksum[:80])
    digests = known.setdefault(path, {})
    if kind not in digests:
        with path.open("rb") as file:
            digests[kind] = hashlib.file_digest(file, kind).hexdigest()
    if digests[kind] != checksum.lower():
        raise ModelError(
            "the checksum of external data is wrong",
            where=f"{name} in {path.name!r}",
            expected=checksum.lower(),
            got=digests[kind],
            advice="fetch the file again",
        )


def _inline(tensor: TensorProto, path: Path, offset: int) -> None:
    with path.open("rb") as file:
        file.seek(offset)
        tensor.raw_data = file.read(tensor_bytes(tensor))
    tensor.ClearField("external_data")
    tensor.data_location = TensorProto.DEFAULT
