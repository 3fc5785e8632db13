"""Where the bytes of an image lie whose pixels are stored one after another, channels side by side.

Integer kernels read and write images (N, C, H, W) of int8 or uint8 in this layout: a dot product
instruction takes neighbouring channels of one pixel. A pixel takes a pitch of 4 bytes or a multiple of 16, so
that kernels load whole vectors; what lies in the bytes behind the last channel is undefined.
"""

from __future__ import annotations

from math import prod
from typing import Any

from tvm import tirx as tir
from tvm.ir import Range
from tvm.sym import Analyzer, detect_linear_equation

from .builder import Builder, int32
from .isa import Isa
from .lazy import Lazy, leaves
from .merging import Probe
from .tensor import Tensor

__all__ = ["IMAGE_TYPES", "channels_last", "is_pixel_major", "pixel_pitch", "pixel_strides", "reads_by_pixel"]

IMAGE_TYPES = ("int8", "uint8")
_FEW = 16  # an image this many times smaller than the result is a parameter


def pixel_pitch(channels: int) -> int:
    """Bytes from a pixel to the next.

    >>> [pixel_pitch(c) for c in (1, 3, 4, 5, 16, 17, 24)]
    [4, 4, 4, 16, 16, 32, 32]
    """
    return 4 if channels <= 4 else -(-channels // 16) * 16


def pixel_strides(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Strides of a pixel-major image (N, C, H, W)."""
    _, channels, height, width = shape
    pitch = pixel_pitch(channels)
    return (height * width * pitch, 1, width * pitch, pitch)


def is_pixel_major(tensor: Tensor) -> bool:
    """Whether kernels may read the tensor as a pixel-major image, all bytes of the pitch included."""
    return (
        len(tensor.shape) == 4
        and tensor.dtype in IMAGE_TYPES
        and tensor.place in ("arena", "weight")
        and tensor.strides == pixel_strides(tensor.shape)
    )


def channels_last(tensor: Tensor) -> bool:
    """Whether channels of a pixel lie side by side: a pixel-major image, or a part of one."""
    return len(tensor.shape) == 4 and tensor.strides[1] == 1 and tensor.strides[3] >= max(2, tensor.shape[1])


def reads_by_pixel(isa: Isa, value: Lazy) -> bool:
    """Whether an image to be stored would best lie pixel-major: it reads images that do, pixel by pixel.

    A transpose of such an image, for one, reads them otherwise.
    """
    if len(value.shape) != 4 or value.dtype not in IMAGE_TYPES or 0 in value.shape:
        return False
    if not any(channels_last(tensor) for tensor in leaves(value)):
        return False
    analyzer = Analyzer()
    index = [tir.Var(f"a{axis}", "int32") for axis in range(4)]
    for variable, extent in zip(index, value.shape, strict=True):
        analyzer.bind(variable, Range(int32(0), int32(extent)))
    probe = Probe(Builder(isa), {})  # what evaluation writes is thrown away
    value.at(probe, list(index))
    return any(
        channels_last(tensor) and not _steps_by_one(analyzer.simplify(offset), index[3])
        for tensor, offset in probe.loads
        if tensor.size * _FEW >= prod(value.shape)
    )


def _steps_by_one(offset: Any, column: Any) -> bool:
    """Whether neighbouring columns are neighbouring elements."""
    found = detect_linear_equation(offset, [column])
    return len(found) == 2 and isinstance(found[0], tir.IntImm) and int(found[0]) == 1
