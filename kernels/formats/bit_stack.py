"""A sum of blocks, each the signs of a weight times a matrix of low rank (BitStack, arXiv:2410.23918).

A weight of any rank is seen as a matrix [O, K]: the first axis (outputs) times all the others. Every block
brings the sum nearer to it, so that the first blocks alone are a smaller model: `head` cuts a stack.

    signs    uint8 [n, ceil(O * K / 8)]   one bit for each weight, row-major, lowest bit first; 1 is minus
    left     float16 [n, O, k]
    right    float16 [n, k, K]
    columns  float16 [K]                  factors of the inputs
    order    int32 [n]                    when each block is to be loaded, of those of all layers; ascending
    shape    int64 [rank]                 the shape of the weight

    W[o, j] = columns[j] * sum over blocks of +-(left[b] @ right[b])[o, j]

in float32. A block takes 1 + 16 k (O + K) / (O K) bits for each weight. No two blocks of a model have one
`order`, but the decoded weight does not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gossamer.runtime.errors import ModelError, OptionError

from ..bit_packing import pack_bits, packed_bytes, unpack_bits
from .base import DECODED_LIMIT, DOMAIN, FUNCTION_OPSET, Array, Format, require_finite_float32

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["BitStack", "BitStackFormat", "Block", "head", "pack_bit_stack", "parse_bit_stack"]

_FUNCTION = """
<domain: "{domain}", opset_import: ["" : {opset}]>
BitStackDecode (signs, left, right, columns, order, shape) => (W)
{{
    none = Constant <value_ints = [0]> ()
    one = Constant <value_ints = [1]> ()
    all = Constant <value_ints = [-1]> ()
    shifts = Constant <value = uint8[1, 8] {{0, 1, 2, 3, 4, 5, 6, 7}}> ()
    low = Constant <value = uint8[1] {{1}}> ()
    outputs = Shape <start = 1, end = 2> (left)
    inputs = Shape <start = 2, end = 3> (right)
    matrix_shape = Concat <axis = 0> (outputs, inputs)
    weights = ReduceProd <keepdims = 1> (matrix_shape)
    nothing = ConstantOfShape (matrix_shape)
    sum = Scan <num_scan_inputs = 3, body = add_block (
        float[rows, cols] before, uint8[bytes] bits, float16[rows, rank] tall, float16[rank, cols] wide
    ) => (float[rows, cols] after) {{
        tall_float = Cast <to = 1> (tall)
        wide_float = Cast <to = 1> (wide)
        product = MatMul (tall_float, wide_float)
        turned = Neg (product)
        column = Unsqueeze (bits, one)
        shifted = BitShift <direction = "RIGHT"> (column, shifts)
        lowest = BitwiseAnd (shifted, low)
        flags = Cast <to = 9> (lowest)
        flat = Reshape (flags, all)
        used = Slice (flat, none, weights)
        minus = Reshape (used, matrix_shape)
        block = Where (minus, turned, product)
        after = Add (before, block)
    }}> (nothing, signs, left, right)
    factors = Cast <to = 1> (columns)
    scaled = Mul (sum, factors)
    W = Reshape (scaled, shape)
}}
"""


@dataclass(frozen=True)
class BitStack:
    """A stored weight, checked and unpacked: `minus` bool [n, O, K], `left` and `right` float16 [n, O, k] and
    [n, k, K], `columns` float32 [K]."""

    shape: tuple[int, ...]
    minus: npt.NDArray[np.bool_]
    left: npt.NDArray[np.float16]
    right: npt.NDArray[np.float16]
    columns: npt.NDArray[np.float32]
    order: npt.NDArray[np.int32]

    def decode(self) -> Array:
        """The weight: float32, of its shape."""
        total = np.zeros(self.minus.shape[1:], np.float32)
        for minus, left, right in zip(self.minus, self.left, self.right, strict=True):
            product = left.astype(np.float32) @ right.astype(np.float32)
            total += np.where(minus, -product, product)
        decoded: Array = (total * self.columns).reshape(self.shape)
        return decoded


class BitStackFormat(Format):
    """Blocks of signs times a low rank, of which the first ones alone are a coarser weight."""

    name = "bit-stack"
    operator = "BitStackDecode"
    parts = ("signs", "left", "right", "columns", "order", "shape")
    summary = "a stack of blocks, each a sign for every weight times a matrix of low rank"

    def encode(self, array: Array, *, blocks: int = 4, rank: int = 1, **options: Any) -> dict[str, Array]:
        """Stack `blocks` blocks of `rank` upon each other, each the best for what those before it left.

        `array` is float32 of rank 2 or more. The pass `stack-bits` does the same faster and orders blocks.

        >>> parts = BitStackFormat().encode(np.array([[2, -4], [1, 2]], np.float32), blocks=1)
        >>> BitStackFormat().decode(parts).round(2).tolist()
        [[2.0, -4.0], [1.0, 2.0]]
        """
        if options:
            raise OptionError(
                "unknown option of bit-stack", expected="blocks, rank", got=", ".join(sorted(options))
            )
        require_finite_float32("bit-stack", array)
        matrix = array.reshape(len(array), -1)
        if blocks < 1 or not 1 <= rank <= min(matrix.shape):
            raise OptionError(
                "bit-stack has no such blocks",
                expected=f"one block at least, of rank 1 to {min(matrix.shape)}",
                got=f"{blocks} of rank {rank}",
            )
        rest, found = matrix.astype(np.float32), []
        for _ in range(blocks):
            minus = rest < 0
            u, sizes, v = np.linalg.svd(np.abs(rest), full_matrices=False)
            root = np.sqrt(sizes[:rank])
            left, right = (
                (u[:, :rank] * root).astype(np.float16),
                (root[:, None] * v[:rank]).astype(np.float16),
            )
            product = left.astype(np.float32) @ right.astype(np.float32)
            rest = rest - np.where(minus, -product, product)
            found.append((pack_bits(minus.view(np.uint8), 1), left, right))
        return pack_bit_stack(array.shape, found, np.ones(matrix.shape[1], np.float16), range(blocks))

    def decode(self, parts: Mapping[str, Array]) -> Array:
        """The weight: float32, of the stored shape, as near as float32 sums are."""
        return parse_bit_stack(parts).decode()

    def function(self, opset: int = FUNCTION_OPSET) -> ir.Function:
        """`BitStackDecode(signs, left, right, columns, order, shape) -> W`, the same since opset 18."""
        import onnx
        import onnx_ir

        text = _FUNCTION.format(domain=DOMAIN, opset=opset)
        return onnx_ir.serde.deserialize_function(onnx.parser.parse_function(text))


Block = tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16], npt.NDArray[np.float16]]
"""signs as they are stored, left [O, k], right [k, K]."""


def pack_bit_stack(
    shape: tuple[int, ...],
    blocks: Sequence[Block],
    columns: npt.NDArray[np.float16],
    order: Iterable[int],
) -> dict[str, Array]:
    """The parts of a weight of `shape` from its blocks, factors of its inputs, and their order of loading."""
    signs, left, right = zip(*blocks, strict=True)
    return {
        "signs": np.stack(signs),
        "left": np.stack(left),
        "right": np.stack(right),
        "columns": columns,
        "order": np.array(list(order), np.int32),
        "shape": np.array(shape, np.int64),
    }


def head(parts: Mapping[str, Array], blocks: int) -> dict[str, Array]:
    """The parts with the first `blocks` of their blocks alone."""
    stacked = ("signs", "left", "right", "order")
    return {name: part[:blocks] if name in stacked else part for name, part in parts.items()}


def parse_bit_stack(parts: Mapping[str, Array]) -> BitStack:
    """The stored weight, its parts checked against each other. Raises ModelError where they do not fit."""
    _check_kinds(parts)
    shape = tuple(int(size) for size in parts["shape"])
    outputs, inputs = shape[0], prod(shape[1:])
    blocks, _, rank = parts["left"].shape
    if 4 * outputs * inputs > DECODED_LIMIT or blocks * outputs * inputs > DECODED_LIMIT:
        raise ModelError("a bit stack decodes to too much", expected=f"{DECODED_LIMIT} bytes", got=shape)
    wanted = {
        "signs": (blocks, packed_bytes(outputs * inputs, 1)),
        "left": (blocks, outputs, rank),
        "right": (blocks, rank, inputs),
        "columns": (inputs,),
        "order": (blocks,),
    }
    for name, size in wanted.items():
        if parts[name].shape != size:
            raise ModelError(
                f"the {name} of a bit stack have the wrong shape",
                expected=list(size),
                got=list(parts[name].shape),
            )
    order = parts["order"]
    if (order < 0).any() or (np.diff(order) <= 0).any():
        raise ModelError(
            "the blocks of a bit stack are out of order", expected="ascending, from 0", got=order.tolist()
        )
    minus = np.stack([unpack_bits(signs, 1, outputs * inputs) for signs in parts["signs"]])
    return BitStack(
        shape,
        minus.reshape(blocks, outputs, inputs).view(np.bool_),
        parts["left"],
        parts["right"],
        parts["columns"].astype(np.float32),
        order,
    )


def _check_kinds(parts: Mapping[str, Array]) -> None:
    kinds = {
        "signs": (np.uint8, 2),
        "left": (np.float16, 3),
        "right": (np.float16, 3),
        "columns": (np.float16, 1),
        "order": (np.int32, 1),
        "shape": (np.int64, 1),
    }
    for name, (kind, rank) in kinds.items():
        if parts[name].dtype != kind or parts[name].ndim != rank or parts[name].size == 0:
            raise ModelError(
                f"the {name} of a bit stack are malformed",
                expected=f"{np.dtype(kind)} of rank {rank} with elements",
                got=f"{parts[name].dtype} {list(parts[name].shape)}",
            )
    if len(parts["shape"]) < 2 or (parts["shape"] < 1).any():
        raise ModelError(
            "the shape of a bit stack is malformed",
            expected="two positive sizes or more",
            got=parts["shape"].tolist(),
        )
