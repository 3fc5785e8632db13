"""onnxruntime, the reference that every result is compared with."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime

from gossamer.runtime.errors import FeedError, JobError, ModelError

from .base import weight_bytes
from .saving import in_memory, save_model

__all__ = ["OnnxTensor", "Runnable", "onnx_io", "open_onnx", "run_onnx", "run_opened"]

Array = npt.NDArray[Any]
Runnable = str | Path | onnx.ModelProto | ir.Model
_DTYPES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bool": "bool",
    "string": "str",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_QUIET = 4
_EXACT_PRODUCTS = "session.qdq_matmulnbits_accuracy_level", "1"
"""Products with dequantised weights are float32's, as ONNX defines; by default inputs are rounded to int8."""
_IN_MEMORY = 16 * 2**20  # bytes of weights; onnxruntime reads what is larger from a file, without a copy here


@dataclass(frozen=True)
class OnnxTensor:
    """An input or output as onnxruntime sees it: numpy's type name, and a shape whose open sizes are
    texts."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


def run_onnx(model: Runnable, feeds: Mapping[str, Array], threads: int = 1) -> list[Array]:
    """All outputs of `model` for `feeds`, in the order of the graph. Raises ModelError, FeedError or
    JobError."""
    with open_onnx(model, threads) as session:
        return run_opened(session, feeds)


def onnx_io(model: Runnable) -> tuple[list[OnnxTensor], list[OnnxTensor]]:
    """Inputs and outputs of `model`. Raises ModelError where onnxruntime does not take it."""
    with open_onnx(model) as session:
        return [_tensor(v) for v in session.get_inputs()], [_tensor(v) for v in session.get_outputs()]


@contextmanager
def open_onnx(model: Runnable, threads: int = 1) -> Iterator[onnxruntime.InferenceSession]:
    """An onnxruntime session on the CPU with `threads` threads, silent. Raises ModelError."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _QUIET
    options.add_session_config_entry(*_EXACT_PRODUCTS)
    where = str(model) if isinstance(model, str | Path) else "the model"
    with _as_source(model) as source:
        try:
            session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # onnxruntime raises a class of its own for each status code.
            raise ModelError(f"onnxruntime does not take it: {_one_line(error)}", where=where) from None
        yield session


def run_opened(session: onnxruntime.InferenceSession, feeds: Mapping[str, Array]) -> list[Array]:
    """All outputs of an open session, in order. Raises FeedError or JobError."""
    missing = [value.name for value in session.get_inputs() if value.name not in feeds]
    if missing:
        raise FeedError("an input has no feed", where=", ".join(missing), got=", ".join(feeds) or "none")
    try:
        results = session.run(None, dict(feeds))
    except Exception as error:
        raise JobError(f"onnxruntime failed: {_one_line(error)}") from None
    return [np.asarray(result) for result in results]


@contextmanager
def _as_source(model: Runnable) -> Iterator[str | bytes]:
    """What onnxruntime opens: a path, bytes, or a temporary file for what is too large to be bytes."""
    if isinstance(model, str | Path):
        if not Path(model).is_file():
            raise ModelError("no such file", where=model)
        yield str(model)
    elif isinstance(model, onnx.ModelProto):
        yield model.SerializeToString()
    elif weight_bytes(model) <= _IN_MEMORY:
        yield ir.to_proto(in_memory(model)).SerializeToString()
    else:
        with tempfile.TemporaryDirectory(prefix="gossamer-") as folder:
            path = Path(folder) / "model.onnx"
            save_model(model, path)
            yield str(path)


def _tensor(value: Any) -> OnnxTensor:
    inner = value.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(d if isinstance(d, int) else str(d or "?") for d in value.shape or ())
    return OnnxTensor(value.name, _DTYPES.get(inner, inner), shape)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 400 else text[:400] + "…"
