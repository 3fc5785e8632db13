"""DFT and STFT as products with matrices of cosines and sines.

    Xₖ = Σ xₙ e^(∓2πi k n / N) = Σ xₙ cos(2πkn/N) ∓ i Σ xₙ sin(2πkn/N)

A frame of N samples takes N² multiply-adds, which a matrix kernel does at full speed.
https://onnx.ai/onnx/operators/onnx__DFT.html, onnx__STFT.html
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from .base import Body

OPERATORS = ("DFT", "STFT")

_AXIS_INPUT = 20
_LARGEST = 8192
"""Samples of a transform; matrices of more would take half a gigabyte."""


def define(body: Body, node: ir.Node) -> Sequence[str] | None:
    """None where lengths are not known when the model is compiled."""
    if node.inputs[0] is None or node.inputs[0].dtype != ir.DataType.FLOAT:
        return None
    return _short_time(body, node) if node.op_type == "STFT" else _transform(body, node)


def _number(node: ir.Node, position: int) -> int | None:
    """A constant input of one element."""
    value = node.inputs[position] if len(node.inputs) > position else None
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else int(tensor.numpy().reshape(-1)[0])


def _transform(body: Body, node: ir.Node) -> Sequence[str] | None:
    source = node.inputs[0]
    if source is None or source.shape is None or not isinstance(source.shape[-1], int):
        return None
    rank, parts = len(source.shape), source.shape[-1]
    axis: int | None = -2
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        axis = _number(node, 2)
    elif body.version < _AXIS_INPUT:
        axis = node.attributes.get_int("axis", 1)
    if axis is None:
        return None
    axis %= rank
    old = source.shape[axis]
    given = len(node.inputs) > 1 and node.inputs[1] is not None
    onesided, inverse = (bool(node.attributes.get_int(name, 0)) for name in ("onesided", "inverse"))
    back = inverse and onesided and parts == 2
    if not isinstance(old, int):
        return None
    whole = 2 * (old - 1) if back else old
    length = _number(node, 1) if given else whole
    if length is None or not 0 < length <= _LARGEST:
        return None
    perm = [*(a for a in range(rank - 1) if a != axis), axis, rank - 1]
    x = body.op("Transpose", body.inputs[0], perm=perm)
    used = min(old, length // 2 + 1 if back else length)
    x = body.op("Slice", x, body.constant([0]), body.constant([used]), body.constant([rank - 2]))
    x = body.op("Reshape", x, body.op("Concat", _leading(body, x, rank), body.constant([-1]), axis=0))
    matrix = _matrix(length, used, parts, onesided=onesided, inverse=inverse)
    y = body.op("MatMul", x, body.constant(matrix.reshape(used * parts, -1), np.float32))
    ends = body.constant([matrix.shape[2], matrix.shape[3]])
    y = body.op("Reshape", y, body.op("Concat", _leading(body, x, rank), ends, axis=0))
    return [body.op("Transpose", y, perm=list(np.argsort(perm)))]


def _leading(body: Body, x: str, rank: int) -> str:
    return body.shape_of(x, range(rank - 2))


def _matrix(length: int, used: int, parts: int, *, onesided: bool, inverse: bool) -> np.ndarray:
    """(samples, real and imaginary part, frequencies, real and imaginary part).

    A one-sided inverse takes half a spectrum, whose other half is its mirror image, and gives real samples.
    """
    back = inverse and onesided and parts == 2
    count = length // 2 + 1 if onesided and not inverse else length
    n, k = np.arange(used)[:, None], np.arange(count)[None, :]
    angle = 2 * np.pi * ((n * k) % length) / length * (1 if inverse else -1)
    cosine, sine = np.cos(angle), np.sin(angle)
    if inverse:
        cosine, sine = cosine / length, sine / length
    if back:
        twice = np.where((n == 0) | (2 * n == length), 1, 2)
        return np.stack([twice * cosine, -twice * sine], axis=1)[..., None]
    real = np.stack([cosine, sine], axis=-1)
    imaginary = np.stack([-sine, cosine], axis=-1)
    return np.stack([real, imaginary][:parts], axis=1)


def _short_time(body: Body, node: ir.Node) -> Sequence[str] | None:
    """Frames are gathered, multiplied with the window and transformed together."""
    signal = node.inputs[0]
    window = node.inputs[2] if len(node.inputs) > 2 else None
    step, length = _number(node, 1), _number(node, 3)
    if length is None and window is not None and window.shape is not None:
        length = window.shape[0] if isinstance(window.shape[0], int) else None
    if signal is None or signal.shape is None or step is None or length is None:
        return None
    samples = signal.shape[1]
    parts = signal.shape[2] if len(signal.shape) > 2 else 1
    if not isinstance(samples, int) or not isinstance(parts, int) or not 0 < length <= min(samples, _LARGEST):
        return None
    onesided = bool(node.attributes.get_int("onesided", 1))
    starts = np.arange(0, samples - length + 1, step)
    places = starts[:, None] + np.arange(length)[None, :]
    frames = body.op("Gather", body.inputs[0], body.constant(places), axis=1)
    if window is not None:
        column = body.op("Unsqueeze", body.inputs[2], body.constant([1])) if len(signal.shape) > 2 else ""
        frames = body.op("Mul", frames, column or body.inputs[2])
    matrix = _matrix(length, length, parts, onesided=onesided, inverse=False)
    frames = body.op("Reshape", frames, body.constant([0, len(starts), length * parts]))
    spectrum = body.op("MatMul", frames, body.constant(matrix.reshape(length * parts, -1), np.float32))
    return [body.op("Reshape", spectrum, body.constant([0, len(starts), matrix.shape[2], 2]))]
