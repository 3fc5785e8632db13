"""Strips of a bit stack: its blocks stay apart, so that a session may load the first ones alone."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cpu.bit_stack_factors import BitStackFactors
from ...cpu.bit_stack_strips import STEP_INPUTS, BitStackStrips, aligned
from ...cpu.half import HALF_FACTOR, half_bits
from ...cpu.tensor import Tensor
from ...formats.bit_stack import BitStack, parse_bit_stack
from ..state import Encoded, Lowering
from .panels import StoredWeight
from .strip_rows import whole_rows

__all__ = ["store_strips"]

Array = npt.NDArray[Any]
_MOST_RANK = 64  # of factors that a kernel holds in registers or, spilled, near them


def store_strips(
    state: Lowering, name: str, encoded: Encoded, strips: Sequence[Array]
) -> StoredWeight | None:
    """Every block, in the order of the strips; None where a strip is not all inputs in order."""
    stack = parse_bit_stack(encoded.parts)
    rank, width = stack.left.shape[2], strips[0].shape[1]
    outputs = whole_rows(strips, prod(stack.shape[1:]))
    if outputs is None or rank > _MOST_RANK:
        return None
    inputs = -(-len(strips[0]) // STEP_INPUTS) * STEP_INPUTS
    form = BitStackStrips((), width, STEP_INPUTS * width, rank, inputs, len(strips))
    table_bytes, factor_bytes = 4 * (1 + len(stack.left)), 4 * inputs
    stored = form.block_bytes * len(stack.left) + table_bytes + factor_bytes
    if stored >= 4 * prod(stack.shape):
        return None  # dense is smaller, and blocks that nobody reads must not be in the artifact
    blocks = [_block(form, stack, number, outputs) for number in range(len(stack.left))]
    everything, table = state.pool.add_stack(name, blocks, stack.order.tolist(), f"block of rank {rank}")
    halves = Tensor(name, "uint16", (everything.size // 2,), (1,), "weight", everything)
    factors = np.zeros(inputs, np.float32)
    factors[: len(stack.columns)] = stack.columns * np.float32(HALF_FACTOR)
    columns = state.pool.add(f"{name}.columns", factors)
    shape = (len(blocks), inputs // STEP_INPUTS, rank, STEP_INPUTS)
    right = state.new_tensor(f"{name}.right", "float32", shape)
    state.steps.append(BitStackFactors(halves, table, columns, right))
    form.tensors = (everything, halves, table, right)
    return StoredWeight(form, f"bit stack of {len(blocks)} blocks, rank {rank}", stored)


def _block(form: BitStackStrips, stack: BitStack, number: int, outputs: Array) -> bytes:
    """The bytes of a block as `BitStackStrips` lays it out."""
    real = outputs >= 0
    rows = np.where(real, outputs, 0)
    right = np.zeros((form.rank, form.inputs), np.uint16)
    right[:, : stack.right.shape[2]] = half_bits(stack.right[number])
    left = np.where(real[..., None], half_bits(stack.left[number])[rows], 0).astype(np.uint16)
    minus = np.zeros((form.strips, form.width, form.inputs), np.uint8)
    minus[:, :, : stack.right.shape[2]] = stack.minus[number][rows]
    signs = np.packbits(minus, axis=2, bitorder="little")
    steps = right.reshape(form.rank, -1, STEP_INPUTS).transpose(1, 0, 2)
    parts = (steps, left.transpose(0, 2, 1), signs.transpose(0, 2, 1))
    data = [np.ascontiguousarray(part).tobytes() for part in parts]
    return b"".join(part + bytes(aligned(len(part)) - len(part)) for part in data)
