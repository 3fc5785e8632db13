"""Images of int8 and uint8 in the layout of integer kernels: pixel after pixel, channels side by side."""

from __future__ import annotations

from ..cpu.lazy import Lazy, Leaf
from ..cpu.pixel_layout import is_pixel_major, pixel_pitch, pixel_strides
from ..cpu.tensor import Tensor
from .state import Lowering

__all__ = ["is_pixel_major", "pixel_major", "pixel_major_tensor", "pixel_pitch", "read_with_channels"]


def pixel_major_tensor(state: Lowering, name: str, dtype: str, shape: tuple[int, ...]) -> Tensor:
    """A new image (N, C, H, W) of int8 or uint8 in the arena."""
    return state.new_tensor(name, dtype, shape, pixel_strides(shape))


def pixel_major(state: Lowering, value: Lazy, name: str = "image") -> Tensor:
    """`value` (N, C, H, W) pixel-major in memory: as it lies there, or computed or copied to such a place.

    A copy is shared by later readers of the same tensor.
    """
    if not isinstance(value, Leaf):
        return _stored(state, value, name)
    tensor = value.tensor
    if is_pixel_major(tensor):
        return tensor
    if id(tensor) not in state.turned:
        state.turned[id(tensor)] = (tensor, _stored(state, value, tensor.name))
    return state.turned[id(tensor)][1]


def _stored(state: Lowering, value: Lazy, name: str) -> Tensor:
    out = pixel_major_tensor(state, name, value.dtype, value.shape)
    state.compute(value, out)
    return out


def read_with_channels(tensor: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether kernels whose vectors are channels of an image of `shape` can read a float operand.

    One value, or one per channel, in memory that may be read past its end.
    """
    rank = len(tensor.shape)
    if tensor.size == 1:
        return True
    if rank < 3 or tensor.shape[-2:] != (1, 1) or tensor.place == "input":
        return False
    return tensor.size == tensor.shape[rank - 3] == shape[1] and tensor.strides[rank - 3] == 1
