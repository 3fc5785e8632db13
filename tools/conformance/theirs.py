"""The same test through onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np

from .cases import Case
from .comparing import first_difference
from .ours import Outcome

__all__ = ["run_onnxruntime"]

_SILENT = 4  # only fatal errors are printed


def run_onnxruntime(case: Case) -> Outcome:
    """What onnxruntime makes of a test on one core."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(
            case.model().SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        return Outcome("refused", _short(error))
    try:
        for inputs, expected in case.data_sets():
            reason = first_difference(case, expected, _run(ort, session, case, inputs))
            if reason:
                return Outcome("failed", reason)
    except Exception as error:
        return Outcome("failed", _short(error))
    return Outcome("passed")


def _run(ort: Any, session: Any, case: Case, inputs: list[Any]) -> list[Any]:
    given = case.named(inputs)
    wanted = {value.name for value in session.get_inputs()}
    feeds = {name: value for name, value in given.items() if name in wanted}
    plain = all(not isinstance(value, np.ndarray) or value.dtype.kind != "V" for value in feeds.values())
    if plain and not any(_stored_type(value.type) for value in session.get_outputs()):
        return list(session.run(None, feeds))
    values = {name: _ort_value(ort, value) for name, value in feeds.items()}
    found = session.run_with_ort_values([value.name for value in session.get_outputs()], values)
    return [_from_ort(value) for value in found]


def _stored_type(name: str) -> str:
    """ml_dtypes' name of a type that numpy lacks, of onnxruntime's `tensor(float8e4m3fn)`."""
    name = name.removeprefix("tensor(").removesuffix(")")
    if name.startswith("float8"):
        return "float8_" + name.removeprefix("float8")
    if name.startswith("float4"):
        return "float4_" + name.removeprefix("float4") + "fn"
    return name if name in ("bfloat16", "int4", "uint4", "int2", "uint2") else ""


def _ort_value(ort: Any, value: Any) -> Any:
    if not isinstance(value, np.ndarray) or value.dtype.kind != "V":
        return ort.OrtValue.ortvalue_from_numpy(value)
    import onnx

    kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    raw = value.view(np.uint16 if value.dtype.itemsize == 2 else np.uint8)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(raw, kind)


def _from_ort(value: Any) -> Any:
    name = _stored_type(value.data_type())
    if not name:
        return value.numpy()
    import ctypes

    import ml_dtypes

    dtype = np.dtype(getattr(ml_dtypes, name))
    size = int(np.prod(value.shape())) * dtype.itemsize
    return np.frombuffer(ctypes.string_at(value.data_ptr(), size), dtype).reshape(value.shape())


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + "…"
