"""The quantiser that comes with onnxruntime, on the same calibration data: what ours is compared with."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from gossamer.runtime.errors import JobError

__all__ = ["quantize_by_onnxruntime"]

Feeds = Mapping[str, npt.NDArray[Any]]
_WEIGHTS = "weights-"


def quantize_by_onnxruntime(
    source: Path, target: Path, options: Sequence[str], calibration: Sequence[Feeds]
) -> int:
    """Write `source`, quantised as `options` say, to `target`; returns the bytes of its weights.

    Options: `dynamic`; `weights-4` or `weights-8`: the weights of products alone, in groups of 32; or any of
    `per-channel`, `minmax` (its default), `percentile`, `entropy`. Raises JobError where it fails.
    """
    from onnxruntime.quantization import CalibrationMethod, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    methods = {method.name.lower(): method for method in CalibrationMethod}
    chosen = [methods[option] for option in options if option in methods]
    with _quiet(), tempfile.TemporaryDirectory(prefix="gossamer-") as folder:
        prepared = Path(folder) / "prepared.onnx"
        try:
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            if bits := [int(option[len(_WEIGHTS) :]) for option in options if option.startswith(_WEIGHTS)]:
                _quantize_weights(prepared, target, bits[0])
            elif "dynamic" in options:
                quantize_dynamic(str(prepared), str(target), per_channel="per-channel" in options)
            else:
                quantize_static(
                    str(prepared),
                    str(target),
                    _reader(calibration),
                    per_channel="per-channel" in options,
                    calibrate_method=chosen[0] if chosen else CalibrationMethod.MinMax,
                )
        except Exception as error:  # whatever a quantiser of other people raises
            text = " ".join(str(error).split())[:200]
            raise JobError(f"onnxruntime's quantiser failed: {type(error).__name__}: {text}") from None
    return _weight_bytes(target)


def _quantize_weights(source: Path, target: Path, bits: int) -> None:
    """Weights of products as MatMulNBits, rounded to the nearest with zero points."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(onnx.load(source), bits=bits, block_size=32, is_symmetric=False)
    quantizer.process()
    quantizer.model.save_model_to_file(str(target))


def _reader(calibration: Sequence[Feeds]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
        def __init__(self) -> None:
            self._feeds: Iterator[Feeds] = iter(calibration)

        def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
            found = next(self._feeds, None)
            return None if found is None else dict(found)

    return Reader()


def _weight_bytes(path: Path) -> int:
    """Bytes of the initializers and constants of all graphs."""
    model = onnx.load(path)
    tensors = [*model.graph.initializer]
    tensors += [
        a.t for node in model.graph.node for a in node.attribute if a.type == onnx.AttributeProto.TENSOR
    ]
    return int(sum(np.asarray(onnx.numpy_helper.to_array(tensor)).nbytes for tensor in tensors))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """It warns about what it was told to leave out."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
