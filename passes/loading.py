"""Reading an ONNX model that nobody has vouched for, and handing on one that is whole and in order."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from gossamer.runtime.errors import ModelError

from .checking_graphs import check_graphs
from .checking_texts import check_texts
from .checking_types import check_types
from .external_data import check_external_data
from .node_order import put_in_order
from .saving import save_model as save_model
from .stored_tensors import check_tensors, densify

__all__ = ["FILE_LIMIT", "Source", "load_model", "save_model"]

Source = str | Path | bytes | onnx.ModelProto | ir.Model
FILE_LIMIT = 2**31 - 1
"""Bytes of one protobuf message; a larger model keeps its weights in external data."""

_FOREIGN = {
    b"version https://git-lfs": "a Git LFS pointer: fetch the real file with `git lfs pull`",
    b"PK\x03\x04": "a zip archive, as PyTorch saves its checkpoints: export the model to ONNX first",
    b"\x80\x02": "a Python pickle: export the model to ONNX first",
    b"\x89HDF": "an HDF5 file: convert it with tf2onnx first",
    b"<": "a web page or XML: the download has probably failed",
    b"{": "JSON text",
    b"\x1f\x8b": "a gzip archive: unpack it first",
}


def load_model(source: Source) -> ir.Model:
    """The model of a file, its bytes, a protobuf or an IR (which is returned as it is).

    Checked: sizes, stored tensors against their shapes, external data (which stays inside the model's
    folder, has its length and its checksum), names produced once, nodes in order (sorted where they are
    not), operators against ONNX's schemas, types and shapes against each other. External data is mapped into
    memory when it is read, not before.
    Raises ModelError.
    """
    if isinstance(source, ir.Model):
        return source
    if isinstance(source, onnx.ModelProto):
        proto = onnx.ModelProto()
        proto.CopyFrom(source)
        return _checked(proto, proto.graph.name or "model", None)
    if isinstance(source, bytes):
        return _checked(_parse(source, "model"), "model", None)
    path = Path(source)
    return _checked(_parse(_read(path), path), path, path.parent)


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise ModelError("is a folder", where=path, expected="an ONNX file")
        size = path.stat().st_size
        if not path.is_file():
            raise ModelError("is not a regular file", where=path, expected="an ONNX file")
        if size > FILE_LIMIT:
            raise ModelError(
                "the file is too large for protobuf",
                where=path,
                expected=f"at most {FILE_LIMIT} bytes",
                got=size,
                advice="save its weights as external data",
            )
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=path) from None


def _parse(data: bytes, where: object) -> onnx.ModelProto:
    if not data:
        raise ModelError("the file is empty", where=where, expected="an ONNX model")
    for start, what in _FOREIGN.items():
        if data.startswith(start):
            raise ModelError("not an ONNX model", where=where, got=what)
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError:
        raise ModelError(
            "not an ONNX model, or a truncated or damaged one",
            where=where,
            got=f"{len(data)} bytes that protobuf cannot decode",
        ) from None
    if not proto.HasField("graph") or not proto.ir_version or not proto.opset_import:
        raise ModelError(
            "not an ONNX model, or a truncated one",
            where=where,
            expected="an IR version, an opset and a graph",
        )
    return proto


def _checked(proto: onnx.ModelProto, where: object, folder: Path | None) -> ir.Model:
    try:
        check_texts(proto)
        check_graphs(proto)
        densify(proto)
        check_tensors(proto)
        check_external_data(proto, folder)
        put_in_order(proto)
    except ModelError as error:
        raise ModelError(
            error.what if error.where is None else f"{error.where}: {error.what}",
            where=where,
            expected=error.expected,
            got=error.got,
            advice=error.advice,
        ) from None
    try:
        model = ir.from_proto(proto)
        if folder is not None:
            ir.external_data.set_base_dir(model.graph, os.path.realpath(folder))
    except Exception as error:
        # Whatever a library says of a file that it cannot take is about the file.
        text = " ".join(str(error.__cause__ or error).split())[:300]
        raise ModelError(f"not a valid ONNX model: {text}", where=where) from None
    check_types(model, where)
    return model
