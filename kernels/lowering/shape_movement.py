"""Operators that move elements of tensors of sizes, or make such tensors."""

from __future__ import annotations

import numpy as np

from ..dims import Dim, is_fixed
from .attributes import flag, integer, integers
from .shape_values import MOST_ELEMENTS, Arguments, Known, NotKnownError, computes, sizes_array


@computes("Identity", "Dropout")
def same(arguments: Arguments) -> Known:
    """The input itself."""
    return arguments[0]


@computes("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshaped(arguments: Arguments) -> Known:
    """The same elements under a shape of numbers."""
    source, node = arguments[0].values, arguments.node
    given = arguments.numbers(1)
    axes = given if given is not None else list(integers(node, "axes", ()))
    if node.op_type == "Reshape":
        shape = [source.shape[i] if n == 0 else n for i, n in enumerate(axes)]
        return Known(arguments[0].dtype, source.reshape(shape))
    if node.op_type == "Flatten":
        axis = integer(node, "axis", 1)
        return Known(arguments[0].dtype, source.reshape(int(np.prod(source.shape[:axis])), -1))
    if node.op_type == "Squeeze":
        places = tuple(a % source.ndim for a in axes) or tuple(
            a for a, n in enumerate(source.shape) if n == 1
        )
        return Known(arguments[0].dtype, np.squeeze(source, places))
    rank = source.ndim + len(axes)
    return Known(arguments[0].dtype, np.expand_dims(source, tuple(a % rank for a in axes)))


@computes("Transpose")
def transposed(arguments: Arguments) -> Known:
    """Axes in another order."""
    perm = integers(arguments.node, "perm", ())
    return Known(arguments[0].dtype, np.transpose(arguments[0].values, perm or None))


@computes("Concat")
def joined(arguments: Arguments) -> Known:
    """Side by side."""
    parts = [arguments[i].values for i in range(len(arguments.inputs))]
    return Known(arguments[0].dtype, np.concatenate(parts, integer(arguments.node, "axis", 0)))


@computes("Gather")
def gathered(arguments: Arguments) -> Known:
    """Elements at numbers."""
    source, axis = arguments[0].values, integer(arguments.node, "axis", 0)
    places = np.array(arguments.numbers(1), np.int64).reshape(arguments[1].values.shape)
    n = source.shape[axis]
    if places.size and (places.min() < -n or places.max() >= n):
        raise NotKnownError
    found = np.take(source, places, axis)
    values = np.empty((), object)
    if not isinstance(found, np.ndarray):
        values[()] = found
        found = values
    return Known(arguments[0].dtype, found)


@computes("Slice")
def sliced(arguments: Arguments) -> Known:
    """From starts to ends that are numbers."""
    source, node = arguments[0].values, arguments.node
    starts = arguments.numbers(1) or list(integers(node, "starts", ()))
    ends = arguments.numbers(2) or list(integers(node, "ends", ()))
    axes = arguments.numbers(3) or list(integers(node, "axes", range(len(starts))))
    steps = arguments.numbers(4) or [1] * len(starts)
    index = [slice(None)] * source.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        through = step < 0 and end < -source.shape[axis]
        index[axis] = slice(start, None if through else end, step)
    return Known(arguments[0].dtype, source[tuple(index)])


@computes("Split")
def split(arguments: Arguments) -> list[Known]:
    """Parts along an axis."""
    source, node = arguments[0].values, arguments.node
    axis, count = integer(node, "axis", 0), len(node.outputs)
    sizes = arguments.numbers(1) or list(integers(node, "split", ()))
    if not sizes:
        part = -(-source.shape[axis] // count)
        sizes = [part] * (count - 1) + [source.shape[axis] - part * (count - 1)]
    places = np.cumsum(sizes)[:-1]
    return [Known(arguments[0].dtype, part) for part in np.split(source, places, axis)]


@computes("Expand")
def expanded(arguments: Arguments) -> Known:
    """numpy's broadcast to a shape of numbers."""
    shape = arguments.numbers(1) or []
    _require_small(shape)
    return Known(arguments[0].dtype, np.broadcast_to(*_common(arguments[0].values, shape)).copy())


def _common(source: np.ndarray, shape: list[int]) -> tuple[np.ndarray, tuple[int, ...]]:
    return source, np.broadcast_shapes(source.shape, tuple(shape))


def _require_small(shape: list[int]) -> None:
    if any(n < 0 for n in shape) or np.prod([float(n) for n in shape]) > MOST_ELEMENTS:
        raise NotKnownError


@computes("Tile")
def tiled(arguments: Arguments) -> Known:
    """Repeated."""
    repeats = arguments.numbers(1) or []
    _require_small([int(arguments[0].values.size), *repeats])
    return Known(arguments[0].dtype, np.tile(arguments[0].values, repeats))


@computes("ConstantOfShape")
def filled(arguments: Arguments) -> Known:
    """One value everywhere, under a shape of numbers."""
    shape = arguments.numbers(0) or []
    _require_small(shape)
    attribute = arguments.node.attributes.get("value")
    value = np.zeros(1, np.float32) if attribute is None else attribute.as_tensor().numpy()
    if str(value.dtype) not in ("int64", "int32", "bool"):
        raise NotKnownError
    values = np.empty(shape, object)
    values[...] = value.reshape(-1)[0].item()
    return Known(str(value.dtype), values)


@computes("Range")
def counted(arguments: Arguments) -> Known:
    """start, start + delta … below limit, where their number is known."""
    start, limit, delta = (arguments[i].values.reshape(-1)[0] for i in range(3))
    if arguments[0].is_float or not isinstance(delta, int) or delta == 0:
        raise NotKnownError
    count = -((start - limit) // delta)
    if isinstance(count, Dim) or count > MOST_ELEMENTS:
        raise NotKnownError
    return Known(arguments[0].dtype, sizes_array([start + i * delta for i in range(max(0, count))]))


@computes("NonZero")
def places(arguments: Arguments) -> Known:
    """Coordinates of what is not zero, where that is known."""
    values = arguments[0].values
    truth = [x if isinstance(x, bool) else bool(x) for x in values.reshape(-1).tolist()]
    found = np.array(np.nonzero(np.array(truth).reshape(values.shape)), np.int64)
    return Known("int64", sizes_array(found.reshape(-1).tolist(), found.shape))


@computes("Pad")
def padded(arguments: Arguments) -> Known:
    """Zeros or a value around a row, as exporters write it to fill up pads."""
    source, node = arguments[0].values, arguments.node
    pads = arguments.numbers(1)
    if source.ndim != 1 or pads is None or len(pads) != 2 or min(pads) < 0 or flag(node, "axes"):
        raise NotKnownError
    fill = (
        0 if len(arguments.inputs) < 3 or arguments.inputs[2] is None else arguments[2].values.reshape(-1)[0]
    )
    if not is_fixed(*pads) or sum(pads) > MOST_ELEMENTS or node.attributes.get("mode") is not None:
        raise NotKnownError
    parts = [sizes_array([fill] * pads[0]), source, sizes_array([fill] * pads[1])]
    return Known(arguments[0].dtype, np.concatenate(parts))
