"""Which kernel writes a lazy value to memory: the general one, or one that knows where bytes lie."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from ..cpu.byte_elementwise import LEAST, ByteElementwise, ByteMap, lies_alike
from ..cpu.byte_lookup import has_lookup, lookup_cost, stored_table
from ..cpu.elementwise import Elementwise as ElementwiseKernel
from ..cpu.integer_epilogue import Requantize
from ..cpu.kernel import Kernel
from ..cpu.lazy import Elementwise, Fill, Lazy, Leaf, leaves, weight_of
from ..cpu.pixel_layout import IMAGE_TYPES, channels_last, is_pixel_major
from ..cpu.tensor import Tensor
from ..cpu.transposing import TransposeMatrix, is_feature_major
from ..cpu.turning import BLOCK, PixelsToPlanes, PlanesToPixels, has_planes
from ..dims import is_fixed
from .byte_sums import byte_sum
from .byte_tables import byte_table
from .integer_tree import rounding_of
from .magnitudes import largest

if TYPE_CHECKING:
    from .state import Lowering

__all__ = ["kernel_for"]

_ROUNDED = 2.0**22  # rounding holds numbers below without clamping them first


def kernel_for(state: Lowering, value: Lazy, out: Tensor) -> Kernel:
    """The kernel that writes `value` to `out`, which has its shape and type."""
    if isinstance(value, Leaf) and (turned := _turned_floats(value.tensor, out)) is not None:
        return turned
    value = _planes_first(state, value, out)
    found = _to_pixels(value, out) or _to_planes(value, out)
    return found or _byte_kernel(state, value, out) or ElementwiseKernel(value, out)


def _planes_first(state: Lowering, value: Lazy, out: Tensor) -> Lazy:
    """A rounding of floats that were moved (cut, padded, joined): they are stored before they are turned."""
    if not is_pixel_major(out) or not isinstance(value, Elementwise) or value.function != "Quantize":
        return value
    source = value.args[0]
    if _is_tree(source) or any(channels_last(tensor) for tensor in leaves(source)):
        return value
    return replace(value, args=(Leaf(state.tensor(source)), *value.args[1:]))


def _turned_floats(tensor: Tensor, out: Tensor) -> Kernel | None:
    """Rows of features, or planes, of what lies the other way round in memory."""
    if tensor.dtype != "float32" or not out.is_contiguous:
        return None
    if is_feature_major(tensor):
        return TransposeMatrix.to_rows(tensor, out)
    if (
        not channels_last(tensor)
        or tensor.shape[0] != 1
        or tensor.strides[2] != out.shape[3] * tensor.strides[3]
    ):
        return None
    pixels, channels = prod(tensor.shape[2:]), tensor.shape[1]
    source = tensor.view((pixels, channels), (tensor.strides[3], 1))
    return TransposeMatrix(source, out.view((pixels, channels), (1, pixels)))


def _to_pixels(value: Lazy, out: Tensor) -> Kernel | None:
    """From planes to a pixel-major image, rounded on the way: by division, as QuantizeLinear says."""
    if not is_pixel_major(out) or not _turns(value, out):
        return None
    images = [t for t in leaves(value) if t.shape == out.shape]
    if not images or not all(has_planes(t) for t in images):
        return None
    if isinstance(value, Leaf):
        return PlanesToPixels(value, None, out)
    rounding = rounding_of(value)
    if rounding is None:
        return None
    requantize, tree = rounding
    scale = float(np.float32(1.0 / requantize.inverse))
    divided = Elementwise("Div", (tree, Fill(scale, "float32")), "float32")
    return PlanesToPixels(divided, replace(requantize, inverse=1.0), out)


def _to_planes(value: Lazy, out: Tensor) -> Kernel | None:
    """From a pixel-major image to planes, as bytes or computed as floats."""
    if not has_planes(out) or not _turns(value, out) or value.dtype not in ("float32", *IMAGE_TYPES):
        return None
    if not isinstance(value, Leaf) and value.dtype != "float32":
        return None
    images = [t for t in leaves(value) if t.shape == out.shape]
    pixels = [t for t in images if is_pixel_major(t)]
    if len(pixels) != 1 or not all(has_planes(t) for t in images if t is not pixels[0]):
        return None
    return PixelsToPlanes(value, pixels[0], out)


def _turns(value: Lazy, out: Tensor) -> bool:
    """Whether blocks of pixels can be computed: operands are images, rows of channels, single values."""
    if not _is_tree(value) or 0 in out.shape or not is_fixed(*out.shape[2:]) or out.shape[2:] == (1, 1):
        return False
    if prod(out.shape[2:]) < BLOCK:
        return False
    return all(t.shape == out.shape or _by_channel(t, out.shape) for t in leaves(value))


def _byte_kernel(state: Lowering, value: Lazy, out: Tensor) -> Kernel | None:
    """A rounding to bytes of what was bytes before; the reciprocal of the scale stands for the division."""
    rounded = isinstance(value, Elementwise) and value.function == "Quantize"
    if not rounded or out.dtype not in IMAGE_TYPES or 0 in out.shape or not _is_tree(value):
        return None
    whole = is_pixel_major(out) or out.is_contiguous
    if not whole or not any(tensor.dtype in IMAGE_TYPES for tensor in leaves(value)):
        return None
    value = _aligned(state, value, out, {})
    rounding = rounding_of(value)
    if rounding is None:
        return None
    requantize, tree = rounding
    requantize = replace(requantize, bounded=largest(tree) * abs(requantize.inverse) < _ROUNDED)
    total = byte_sum(tree)
    if total is not None and requantize.bounded:
        tree = total.tree(1 / requantize.inverse, requantize.zero_point)
        requantize = replace(requantize, inverse=1.0, zero_point=0)
    return _map(state, value, out) or _elementwise(requantize, tree, out)


def _is_tree(value: Lazy) -> bool:
    """Whether it is elementwise functions of tensors and constants, nothing moved."""
    return isinstance(value, Leaf | Fill) or (
        isinstance(value, Elementwise) and all(_is_tree(part) for part in value.args)
    )


def _aligned(state: Lowering, tree: Lazy, out: Tensor, known: dict[int, Lazy]) -> Lazy:
    """The tree with images of bytes where they lie as `out` does, copied where they did not."""
    from .pixel_major import pixel_major

    if id(tree) in known:
        return known[id(tree)]
    result = tree
    if isinstance(tree, Elementwise):
        result = replace(tree, args=tuple(_aligned(state, part, out, known) for part in tree.args))
    elif isinstance(tree, Leaf) and tree.dtype in IMAGE_TYPES and is_pixel_major(out):
        result = Leaf(pixel_major(state, tree)) if tree.shape == out.shape else tree
    known[id(tree)] = result
    return result


def _map(state: Lowering, tree: Lazy, out: Tensor) -> Kernel | None:
    """A look-up, where the tree is a function of one value and looking up is less work."""
    sources = {id(leaf): leaf for leaf in _leaf_nodes(tree)}
    if len(sources) != 1 or not has_lookup(state.isa) or weight_of(tree) <= lookup_cost(state.isa):
        return None
    (leaf,) = sources.values()
    if not lies_alike(leaf.tensor, out):
        return None
    entries = byte_table(tree, leaf)
    if entries is None:
        return None
    table = state.pool.add(f"{out.name}.table", stored_table(state.isa, entries), "table of bytes")
    return ByteMap(leaf.tensor, table, out, _bytes_of(out))


def _leaf_nodes(tree: Lazy) -> list[Leaf]:
    if isinstance(tree, Leaf):
        return [tree]
    return [leaf for part in tree.parts() for leaf in _leaf_nodes(part)]


def _bytes_of(out: Tensor) -> int:
    """All bytes of an image or a dense tensor, those behind the channels of a pixel included."""
    return out.shape[0] * out.strides[0] if is_pixel_major(out) else out.size


def _elementwise(requantize: Requantize, tree: Lazy, out: Tensor) -> Kernel | None:
    """In runs as long as operands allow; None where some lie otherwise."""
    rows = [t for t in leaves(tree) if t.size > 1 and not lies_alike(t, out)]
    pitch = out.strides[3] if is_pixel_major(out) else (out.shape or (1,))[-1]
    if not all(_is_row(t, out) for t in rows):
        return None
    images = max((t.shape[0] for t in rows if len(t.shape) == 4), default=1)
    total = _bytes_of(out)
    run = pitch if rows else total // images
    if run < LEAST:
        return None
    return ByteElementwise(tree, requantize, out, images, total // images // run, run)


def _is_row(tensor: Tensor, out: Tensor) -> bool:
    """Whether it has one value for each byte of a run: a channel of a pixel, or a column of a row.

    Runs of pixels reach past the last channel, so memory must too.
    """
    padded = (1,) * (len(out.shape) - len(tensor.shape)) + tensor.shape
    inner = 1 if is_pixel_major(out) else len(out.shape) - 1
    axis = inner - (len(out.shape) - len(tensor.shape))
    if axis < 0 or tensor.strides[axis] != 1 or padded[inner] != out.shape[inner]:
        return False
    first = 1 if is_pixel_major(out) and padded[0] == out.shape[0] else 0
    others = prod(n for i, n in enumerate(padded) if i != inner and i >= first)
    return others == 1 and (tensor.place != "input" or not is_pixel_major(out))


def _by_channel(tensor: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether it is one value, or one for each channel, which lie side by side."""
    rank = len(tensor.shape)
    if tensor.size == 1:
        return True
    row = rank >= 3 and tensor.size == tensor.shape[rank - 3] == shape[1]
    return row and tensor.strides[rank - 3] == 1
