"""com.microsoft MatMulNBits: Y = A * W' + bias, where W [N, K] is stored in blocks along K.

    B            uint8 [N, blocks, block_size * bits / 8], lowest bits first
    scales       [N, blocks], or flat
    zero_points  uint8 [N, ceil(blocks * bits / 8)], or flat; 2 ** (bits - 1) where left out

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from gossamer.kernels.bit_packing import packed_bytes, unpack_bits
from gossamer.kernels.code_groups import CodeForm
from gossamer.kernels.formats.group_int import GroupInt, pack_group_int
from gossamer.runtime.errors import ModelError

from ...storing import Stored
from ..registry import rewrites
from ..writing import Refused, Writer, constant_of

__all__ = ["rewrite_blocked_product"]

Array = np.ndarray[Any, Any]
_TYPES: dict[int, Any] = {4: ml_dtypes.uint4, 8: np.uint8}
_LARGEST = 1 << 31


@dataclass(frozen=True)
class _Form:
    """Sizes of the stored weight."""

    node: ir.Node
    rows: int  # N
    depth: int  # K
    bits: int
    block: int

    @property
    def blocks(self) -> int:
        return -(-self.depth // self.block)


@rewrites("MatMulNBits")
def rewrite_blocked_product(writer: Writer) -> ir.Value:
    """MatMul(A, W') + bias, where DequantizeLinear gives W', or the format `group-int`."""
    form = _form(writer.node)
    if writer.input(4) is not None:
        raise Refused("g_idx gives its inputs to blocks in an order of their own")
    codes, scales, zeros = _codes(writer, form), _scales(writer, form), _zeros(writer, form)
    if form.bits in _TYPES:
        w = _standard(writer, form, codes, scales, zeros)
    elif scales.dtype == np.float32:
        stored = GroupInt(CodeForm((form.rows, form.depth), form.bits, form.block), codes, scales, zeros)
        w = writer.decode(Stored("group-int", pack_group_int(stored)), (form.rows, form.depth))
        w = writer.add("Transpose", [w], {"perm": [1, 0]})
    else:
        raise Refused(f"{form.bits} bits with scales in {scales.dtype} have no form here")
    result = writer.add("MatMul", [writer.needed(0), w], name=writer.node.name or "")
    bias = writer.input(5)
    return result if bias is None else writer.add("Add", [result, bias])


def _standard(writer: Writer, form: _Form, codes: Array, scales: Array, zeros: Array) -> ir.Value:
    kind = _TYPES[form.bits]
    weight = writer.constant("quantized", np.ascontiguousarray(codes.T).astype(kind))
    scale = writer.constant("scales", np.ascontiguousarray(scales.T))
    zero = writer.constant("zero_points", np.ascontiguousarray(zeros.T).astype(kind))
    return writer.dequantize(weight, scale, zero, axis=0, block_size=form.block)


def _form(node: ir.Node) -> _Form:
    given = {name: node.attributes.get_int(name, 0) for name in ("N", "K", "block_size")}
    for name, value in given.items():
        if not 0 < value < _LARGEST:
            raise _wrong(node, f"attribute {name} is out of range", "a positive size", value)
    bits = node.attributes.get_int("bits", 4)
    if not 1 <= bits <= 8:
        raise _wrong(node, "attribute bits is out of range", "1 to 8", bits)
    return _Form(node, given["N"], given["K"], bits, given["block_size"])


def _wrong(node: ir.Node, what: str, expected: object, got: object) -> ModelError:
    return ModelError(what, where=f"MatMulNBits node {node.name!r}", expected=expected, got=got)


def _part(writer: Writer, index: int, what: str) -> Array:
    array = constant_of(writer.needed(index))
    if array is None:
        raise Refused(f"its {what} are known only at run time")
    return array


def _sized(form: _Form, array: Array, what: str, count: int) -> Array:
    if array.size != count:
        raise _wrong(form.node, f"{what} do not fit N, K and block_size", f"{count} elements", array.size)
    return array


def _codes(writer: Writer, form: _Form) -> Array:
    """Every code of W [N, K]; the last block may be filled up behind K."""
    row = form.blocks * form.block
    stored = _part(writer, 1, "weights")
    if stored.dtype != np.uint8:
        raise _wrong(form.node, "weights have another type", "uint8", stored.dtype)
    stored = _sized(form, stored, "weights", form.rows * packed_bytes(row, form.bits))
    codes = unpack_bits(stored.reshape(-1), form.bits, form.rows * row)
    return codes.reshape(form.rows, row)[:, : form.depth]


def _scales(writer: Writer, form: _Form) -> Array:
    scales = _sized(form, _part(writer, 2, "scales"), "scales", form.rows * form.blocks)
    return scales.reshape(form.rows, form.blocks)


def _zeros(writer: Writer, form: _Form) -> Array:
    """Whole zero points [N, blocks]; those given as floats must be whole."""
    if writer.input(3) is None:
        return np.full((form.rows, form.blocks), 1 << (form.bits - 1), np.uint8)
    stored = _part(writer, 3, "zero points")
    if stored.dtype == np.uint8:
        width = packed_bytes(form.blocks, form.bits)
        packed = _sized(form, stored, "zero points", form.rows * width).reshape(form.rows, width)
        return np.stack([unpack_bits(line, form.bits, form.blocks) for line in packed])
    zeros = _sized(form, stored, "zero points", form.rows * form.blocks).reshape(form.rows, form.blocks)
    if not ((zeros == np.rint(zeros)) & (zeros >= 0) & (zeros < 1 << form.bits)).all():
        raise Refused("its zero points are no whole numbers of its type")
    return zeros.astype(np.uint8)
