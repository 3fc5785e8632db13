"""Every tensor stored in a model has the bytes that its shape and type ask for."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
import onnx
from onnx import TensorProto

from gossamer.kernels.formats.base import DECODED_LIMIT
from gossamer.runtime.errors import ModelError

__all__ = ["check_tensors", "densify", "graphs_of", "tensor_bytes", "tensors_of"]

_DIMENSION_LIMIT = 2**40
_BITS: dict[int, int] = {
    **dict.fromkeys([TensorProto.INT2, TensorProto.UINT2], 2),
    **dict.fromkeys([TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1], 4),
    **dict.fromkeys([TensorProto.FLOAT, TensorProto.INT32, TensorProto.UINT32], 32),
    **dict.fromkeys([TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT16, TensorProto.UINT16], 16),
    **dict.fromkeys([TensorProto.DOUBLE, TensorProto.INT64, TensorProto.UINT64, TensorProto.COMPLEX64], 64),
    TensorProto.COMPLEX128: 128,
}
_TYPED = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")


def graphs_of(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph and every graph inside its nodes and those of functions."""
    yield proto.graph
    yield from _subgraphs(proto.graph.node)
    for function in proto.functions:
        yield from _subgraphs(function.node)


def _subgraphs(nodes: object) -> Iterator[onnx.GraphProto]:
    for node in nodes:  # type: ignore[attr-defined]  # a protobuf container
        for attribute in node.attribute:
            for graph in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
                yield graph
                yield from _subgraphs(graph.node)


def tensors_of(proto: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every stored tensor, at any depth: initializers of the main graph, then all others."""
    for graph in graphs_of(proto):
        yield from graph.initializer
        yield from _attribute_tensors(graph.node)
    for function in proto.functions:
        yield from _attribute_tensors(function.node)


def _attribute_tensors(nodes: object) -> Iterator[TensorProto]:
    for node in nodes:  # type: ignore[attr-defined]
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def tensor_bytes(tensor: TensorProto) -> int:
    """Bytes that the elements of `tensor` take by its shape and type."""
    return -(-_elements(tensor) * _BITS.get(tensor.data_type, 8) // 8)


def _elements(tensor: TensorProto) -> int:
    return prod(int(size) for size in tensor.dims)


def check_tensors(proto: onnx.ModelProto) -> None:
    """Raises ModelError for a tensor whose shape is absurd or whose stored data does not fill it."""
    for tensor in tensors_of(proto):
        if any(not 0 <= size <= _DIMENSION_LIMIT for size in tensor.dims):
            raise ModelError("a tensor has an impossible shape", where=tensor.name, got=list(tensor.dims))
        if tensor.data_location != TensorProto.EXTERNAL:
            _check_inline(tensor)


def _check_inline(tensor: TensorProto) -> None:
    if tensor.HasField("raw_data"):
        expected, got, unit = tensor_bytes(tensor), len(tensor.raw_data), "bytes"
    else:
        expected, got, unit = _typed_entries(tensor), sum(len(getattr(tensor, f)) for f in _TYPED), "values"
    if expected != got:
        raise ModelError(
            "a tensor's data does not fill its shape",
            where=tensor.name,
            expected=f"{expected} {unit} for {list(tensor.dims)}",
            got=got,
        )


def _typed_entries(tensor: TensorProto) -> int:
    """Entries of the typed field: complex numbers take two, four-bit values share one."""
    if tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        return 2 * _elements(tensor)
    bits = _BITS.get(tensor.data_type, 8)
    return tensor_bytes(tensor) if bits < 8 else _elements(tensor)


def densify(proto: onnx.ModelProto) -> None:
    """Turn the sparse tensors of ONNX into dense ones: no other part of this package knows them."""
    for graph in graphs_of(proto):
        for sparse in graph.sparse_initializer:
            graph.initializer.append(_dense(sparse))
        graph.ClearField("sparse_initializer")
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("sparse_tensor"):
                    dense = _dense(attribute.sparse_tensor)
                    attribute.Clear()
                    attribute.CopyFrom(onnx.helper.make_attribute("value", dense))


def _dense(sparse: onnx.SparseTensorProto) -> TensorProto:
    name = sparse.values.name
    check = onnx.ModelProto()
    check.graph.initializer.extend([sparse.values, sparse.indices])
    check_tensors(check)
    dims = list(sparse.dims)
    if any(d < 0 for d in dims) or prod(dims) * 16 > DECODED_LIMIT:
        raise ModelError("a sparse tensor is too large when dense", where=name, got=dims)
    values = onnx.numpy_helper.to_array(sparse.values)
    indices = onnx.numpy_helper.to_array(sparse.indices)
    dense = np.zeros(prod(dims), values.dtype)
    try:
        flat = np.ravel_multi_index(tuple(indices.T), tuple(dims)) if indices.ndim == 2 else indices
        if (flat < 0).any():
            raise IndexError("negative")
        dense[flat] = values
    except (IndexError, ValueError):
        raise ModelError("the indices of a sparse tensor lie outside it", where=name, got=dims) from None
    return onnx.numpy_helper.from_array(dense.reshape(dims), name)
