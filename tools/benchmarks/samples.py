"""Inputs that a model is calibrated on, and onnxruntime's own quantiser on the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.runtime.feeds import random_feeds, read_feeds

from ..engine import onnx_signature

__all__ = ["quantize_by_onnxruntime", "write_samples"]

_SAMPLES = 8

Feeds = dict[str, np.ndarray[Any, Any]]


def write_samples(model: Path, folder: Path) -> None:
    """Random feeds of an ONNX file with static shapes, one .npz each; none where the folder is there."""
    if folder.is_dir():
        return
    folder.mkdir(parents=True)
    inputs, _ = onnx_signature(model, {})
    for seed in range(_SAMPLES):
        np.savez(folder / f"{seed}.npz", **random_feeds(inputs, seed))  # type: ignore[arg-type]


def quantize_by_onnxruntime(model: Path, samples: Path, out: Path, *, dynamic: bool) -> None:
    """Write `model` in int8 as onnxruntime's tools make it: static in QDQ form by min-max, or dynamic."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds: Iterator[Feeds] = (read_feeds(file) for file in sorted(samples.glob("*.npz")))

        def get_next(self) -> Feeds | None:
            return next(self._feeds, None)

    prepared = out.with_suffix(".prepared.onnx")
    quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
    if dynamic:
        quantize_dynamic(str(prepared), str(out), per_channel=True, weight_type=QuantType.QInt8)
    else:
        quantize_static(
            str(prepared),
            str(out),
            Reader(),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    prepared.unlink()
