"""Strips of weights that are stacks of blocks: signs times a low rank, added up over the blocks there are.

How many blocks there are stands in the weights, before where each of them lies, so that the same code runs a
model of which only the first blocks were loaded.

A block holds, each part from a whole number of 64 bytes on:

    right  float16 [steps, rank, 8]         8 inputs, which are a step
    left   float16 [strips, rank, width]
    signs  uint8 [strips, steps, width]     bit i: input i of the step, 1 is minus
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32, scalar_type, vector_type
from .decoded_panels import Place, StoredStrips
from .half import load_half
from .register_tile import RegisterTile

__all__ = ["STEP_INPUTS", "UNIT", "BitStackStrips", "aligned"]

STEP_INPUTS = 8
"""Inputs of a step: their signs are one byte for each output."""
_PART = 32  # steps that all blocks are added to before the next ones
UNIT = 64
"""Bytes that places of blocks, and of their parts, are multiples of."""


def aligned(size: int) -> int:
    """`size` in whole units, in bytes."""
    return -(-size // UNIT) * UNIT


@dataclass(eq=False)
class BitStackStrips(StoredStrips):
    """`tensors`: all weights, as uint8 and as uint16; the table int32 [1 + blocks] of how many blocks there
    are and where they lie, in units; and the right factors, made float32 [blocks, steps, rank, 8]."""

    rank: int
    inputs: int  # in whole steps
    strips: int

    @property
    def key(self) -> tuple[Any, ...]:
        return ("bit-stack", self.width, self.rank, self.inputs, self.strips)

    @property
    def left_at(self) -> int:
        """Bytes of a block before its left factors."""
        return aligned(2 * self.rank * self.inputs)

    @property
    def signs_at(self) -> int:
        """Bytes of a block before its signs."""
        return self.left_at + aligned(2 * self.strips * self.rank * self.width)

    @property
    def block_bytes(self) -> int:
        """Bytes of a block."""
        return self.signs_at + aligned(self.strips * self.inputs // STEP_INPUTS * self.width)

    def decode(
        self, b: Builder, pointers: dict[int, Pointer], strip: Any, at: Any, first: Any, steps: Any, to: Place
    ) -> None:
        work = _Work(self, b, [pointers[id(t)] for t in self.tensors], strip, to)
        zero, table = constant(0.0, "float32", self.width), work.pointers[2]
        blocks = b.let(table.load(0), "blocks")
        # a part at a time, which stays in the first-level cache from block to block
        with b.loop(b.let(tir.truncdiv(steps + (_PART - 1), int32(_PART)), "parts")) as part:
            start = b.let(part * _PART, "start")
            count = b.let(tir.min(steps - start, int32(_PART)), "count")
            with b.loop(count, start) as i:
                for j in range(STEP_INPUTS):
                    b.store(to.pointer, to.offset + (i * STEP_INPUTS + j) * to.pitch, zero)
            with b.loop(blocks) as number:
                work.open(b.let(table.load(number + 1), "block"), number)
                with b.loop(count, start) as i:
                    work.step(b.let(at + i), b.let(first + i * STEP_INPUTS), b.let(i * STEP_INPUTS))


class _Work:
    """Adds one block after another to a strip."""

    def __init__(
        self, strips: BitStackStrips, b: Builder, pointers: list[Pointer], strip: Any, to: Place
    ) -> None:
        self.strips, self.b, self.pointers, self.strip, self.to = strips, b, pointers, strip, to
        self.left = RegisterTile(b, strips.rank, 1, strips.width)
        self.sums = RegisterTile(b, STEP_INPUTS, 1, strips.width)
        self.block: Any = None
        self.right: Any = None

    def open(self, block: Any, number: Any) -> None:
        """Loads the left factors of the strip from block `number`, which lies at `block`, in units."""
        s, b = self.strips, self.b
        self.block = block
        self.right = b.let(number * (s.rank * s.inputs), "right")
        start = b.let(block * (UNIT // 2) + (self.strip * (s.rank * s.width) + s.left_at // 2))
        for r in range(s.rank):
            self.left.set(r, 0, load_half(b, self.pointers[1], start + r * s.width, s.width))

    def step(self, at: Any, first: Any, place: Any) -> None:
        """Adds the inputs from `first`, whose signs are step `at` of all, to `place` of the panel."""
        s, b, width = self.strips, self.b, self.strips.width
        right = b.let(self.right + first * s.rank)
        self.sums.start()
        for r in range(s.rank):
            for j in range(STEP_INPUTS):
                scalar = self.pointers[3].load(right + (r * STEP_INPUTS + j))
                scalar = scalar if width == 1 else tir.Broadcast(scalar, width)
                self.sums.set(j, 0, b.isa.multiply_add(self.left.get(r, 0), scalar, self.sums.get(j, 0)))
        signs = self.pointers[0].load(self.block * UNIT + (at * width + s.signs_at), width)
        bits = b.hold(tir.Cast(vector_type("int32", width), signs))
        for j in range(STEP_INPUTS):
            out = b.let(self.to.offset + (place + j) * self.to.pitch)
            before = self.to.pointer.load(out, width)
            b.store(self.to.pointer, out, before + _turned(self.sums.get(j, 0), bits, j, width))


def _turned(value: Any, bits: Any, place: int, width: int) -> Any:
    """`value`, negative where bit `place` is set."""
    assert scalar_type(value) == "float32"
    moved = tir.shift_left(bits, constant(31 - place, "int32", width))
    sign = moved & constant(-(2**31), "int32", width)
    flipped = tir.bitwise_xor(tir.reinterpret(vector_type("int32", width), value), sign)
    return tir.reinterpret(vector_type("float32", width), flipped)
