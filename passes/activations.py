"""What layers read when a model runs on calibration data.

A layer of a matrix product sees rows x of K values: K inputs of a MatMul or Gemm, input channels x taps of a
convolution (one row for each output pixel). From such rows follow second moments, covariances, and what a
changed weight does to the layer's outputs, `x @ W.T` for `W` [outputs, K].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from .base import node_label
from .layers import Layer

__all__ = ["Calibration", "exposing", "weights_and_rows"]

Array = npt.NDArray[np.float32]
_ROWS = 4096
_CHUNK_BYTES = 256 * 2**20  # of rows that are collected in one run over the feeds


@dataclass(frozen=True)
class Calibration:
    """Sample inputs of a model: one mapping of input names to arrays for each run."""

    feeds: Sequence[Mapping[str, npt.NDArray[np.generic]]]

    def rows(self, model: ir.Model, layers: Sequence[Layer], limit: int = _ROWS) -> Iterator[Array]:
        """For each of `layers`, in order: some of the rows it reads, [n, K] float32, n <= about `limit`.

        Which rows depends on the layer's name and on `limit` alone, so that rows from two versions of a model
        belong to the same pixels. A convolution in groups gives the K values of every group side by side: [n,
        groups * K]. The model is run once for each part of the layers whose rows fit 256 MiB. Raises JobError
        or FeedError where the model does not run.
        """
        for part in _parts(layers, limit):
            yield from self._collect(model, part, limit)

    def _collect(self, model: ir.Model, layers: Sequence[Layer], limit: int) -> list[Array]:
        from .reference import open_onnx, run_opened  # onnxruntime, which most passes do not need

        # a layer reads the output of a node, or an input of the model, which onnxruntime cannot give back
        values = list({id(layer.node.inputs[0]): layer.node.inputs[0] for layer in layers}.values())
        given = {value.name for value in model.graph.inputs}
        wanted = [str(v.name) for v in values if v is not None and v.name not in given]
        found: list[list[Array]] = [[] for _ in layers]
        per_feed = max(1, -(-limit // max(1, len(self.feeds))))
        with ExitStack() as stack:
            session = stack.enter_context(open_onnx(exposing(model, wanted))) if wanted else None
            for number, feeds in enumerate(self.feeds):
                results = run_opened(session, feeds) if session is not None else []
                arrays = dict(zip(wanted, results, strict=True))
                for rows, layer in zip(found, layers, strict=True):
                    value = layer.node.inputs[0]
                    assert value is not None
                    array = arrays[str(value.name)] if str(value.name) in arrays else feeds[str(value.name)]
                    seed = crc32(f"{node_label(layer.node)} {number}".encode())
                    rows.append(_rows(layer, np.asarray(array, np.float32), per_feed, seed))
        return [np.concatenate(rows) for rows in found]


def _parts(layers: Sequence[Layer], limit: int) -> Iterator[list[Layer]]:
    part: list[Layer] = []
    total = 0
    for layer in layers:
        assert layer.weight.shape is not None
        sizes = layer.weight.shape.numpy()
        depth = int(np.prod(sizes[1:])) * layer.groups if layer.rows_are_outputs else int(sizes[0])
        if part and total + depth * limit * 4 > _CHUNK_BYTES:
            yield part
            part, total = [], 0
        part.append(layer)
        total += depth * limit * 4
    if part:
        yield part


def exposing(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """A copy of `model` that gives the values called `names`, and computes no more than that takes."""
    copy = model.clone()
    values = {value.name: value for node in copy.graph for value in node.outputs}
    copy.graph.outputs.clear()
    for name in names:
        value = values[name]
        if value.type is None:
            value.type = ir.TensorType(ir.DataType.FLOAT)
        copy.graph.outputs.append(value)
    RemoveUnusedNodesPass()(copy)
    return copy


def _rows(layer: Layer, array: Array, count: int, seed: int) -> Array:
    random = np.random.default_rng(seed)
    if layer.node.op_type == "Conv":
        return _patches(layer, array, count, random)
    if layer.node.attributes.get_int("transA", 0):
        array = array.T
    flat = array.reshape(-1, array.shape[-1])
    return flat[_picked(len(flat), count, random)]


def _picked(total: int, count: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    if total <= count:
        return np.arange(total)
    return np.sort(random.choice(total, count, replace=False))


def _patches(layer: Layer, images: Array, count: int, random: np.random.Generator) -> Array:
    """Windows of some output pixels: [n, C * taps], the order of a weight's last axes within each channel."""
    assert layer.weight.shape is not None
    kernel = layer.weight.shape.numpy()[2:]
    rank = len(kernel)
    attributes = layer.node.attributes
    strides = tuple(attributes.get_ints("strides", [1] * rank))
    dilations = tuple(attributes.get_ints("dilations", [1] * rank))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = _pads(layer.node, images.shape[2:], spans, strides)
    padded = np.pad(images, [(0, 0), (0, 0), *pads])
    sizes = [
        (n - span) // stride + 1 for n, span, stride in zip(padded.shape[2:], spans, strides, strict=True)
    ]
    picked = _picked(len(images) * int(np.prod(sizes)), count, random)
    batch, *places = np.unravel_index(picked, (len(images), *sizes))
    columns = [
        place[:, None] * stride + np.arange(k) * dilation
        for place, stride, k, dilation in zip(places, strides, kernel, dilations, strict=True)
    ]
    # [n, C, taps...]: one index array for each axis, broadcast against the others
    index = [
        column.reshape(len(picked), *(len(column[0]) if i == axis else 1 for i in range(-1, rank)))
        for axis, column in enumerate(columns)
    ]
    channels = np.arange(images.shape[1]).reshape(1, -1, *[1] * rank)
    patches: Array = padded[(batch.reshape(-1, *[1] * (rank + 1)), channels, *index)]
    return patches.reshape(len(picked), -1)


def _pads(
    node: ir.Node, sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """(before, after) of each spatial axis; auto_pad as the ONNX page of Conv defines it."""
    auto = node.attributes.get_string("auto_pad", "NOTSET")
    rank = len(sizes)
    if auto == "NOTSET":
        flat = tuple(node.attributes.get_ints("pads", [0] * (2 * rank)))
        return list(zip(flat[:rank], flat[rank:], strict=True))
    if auto == "VALID":
        return [(0, 0)] * rank
    pads = []
    for size, span, stride in zip(sizes, spans, strides, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + span - size)
        less, more = total // 2, total - total // 2
        pads.append((less, more) if auto == "SAME_UPPER" else (more, less))
    return pads


def weights_and_rows(
    data: Calibration | None, model: ir.Model, layers: Sequence[Layer], limit: int
) -> Iterator[tuple[Array, Array | None]]:
    """For each layer: its weight, outputs first, and about `limit` rows that it reads.

    There are no rows without data, nor for a convolution in groups, whose channels read different inputs.
    """
    plain = [layer for layer in layers if layer.groups == 1]
    rows = data.rows(model, plain, limit) if data is not None else None
    for layer in layers:
        tensor = layer.weight.const_value
        assert tensor is not None
        weight = np.ascontiguousarray(layer.outputs_first(tensor.numpy()))
        yield weight, next(rows) if rows is not None and layer.groups == 1 else None
