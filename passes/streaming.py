"""A model as protobuf, piece by piece, so that its weights are never in memory twice.

A message is the sequence of its fields, so large initializers are written behind the other fields of the
graph: the tag of `initializer` (ModelProto.graph is field 7, GraphProto.initializer 5, TensorProto.raw_data
9), the length, the fields of the tensor. Source: protobuf.dev/programming-guides/encoding and onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir

__all__ = ["serialized"]

_GRAPH, _INITIALIZER, _RAW_DATA = (bytes([field << 3 | 2]) for field in (7, 5, 9))
_LARGE = 1 << 16  # bytes


def serialized(model: ir.Model) -> Iterator[bytes]:
    """Pieces that are, one after another, the ModelProto of `model`; its weights are in memory or mapped.

    Every piece holds one weight at most. What an initializer says of itself is not repeated in `value_info`.
    """
    copy = model.clone()
    large = [taken for value in list(copy.graph.initializers.values()) if (taken := _taken(copy, value))]
    proto = ir.to_proto(copy)
    graph = proto.graph.SerializeToString()
    proto.ClearField("graph")
    heads = [_head(name, tensor) for name, tensor in large]
    length = len(graph) + sum(
        len(head) + tensor.nbytes for head, (_, tensor) in zip(heads, large, strict=True)
    )
    yield proto.SerializeToString() + _GRAPH + _varint(length) + graph
    for head, (name, tensor) in zip(heads, large, strict=True):
        data = tensor.tobytes()
        assert len(data) == tensor.nbytes, name
        yield head + data


def _taken(model: ir.Model, value: ir.Value) -> tuple[str, ir.TensorProtocol] | None:
    """The initializer's name (its tensor's may be another) and tensor, taken out of `model`, where it is
    large and no more than its data."""
    tensor = value.const_value
    plain = tensor is not None and not tensor.doc_string and not tensor.metadata_props
    if tensor is None or not plain or tensor.nbytes < _LARGE or tensor.dtype == ir.DataType.STRING:
        return None
    name = str(value.name)
    model.graph.initializers.pop(name)
    return name, tensor


def _head(name: str, tensor: ir.TensorProtocol) -> bytes:
    """All of the initializer before its data."""
    proto = onnx.TensorProto(name=name, dims=tensor.shape.numpy(), data_type=tensor.dtype.value)
    fields: bytes = proto.SerializeToString() + _RAW_DATA + _varint(tensor.nbytes)
    return _INITIALIZER + _varint(len(fields) + tensor.nbytes) + fields


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first.

    >>> _varint(300).hex()
    'ac02'
    """
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])
