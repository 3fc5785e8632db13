"""Codes of 1 to 8 bits, in exactly that many, laid out so that whole vectors are unpacked at once.

A code is cut into pieces of 8, 4, 2 or 1 bits (a code of 7 bits into 4 + 2 + 1). Codes are stored in steps:
for each piece, vectors of sixteen bytes, in which the pieces of 8 / width vectors of sixteen codes lie. So a
vector of codes is a shift and a mask of one vector for each piece, whatever the processor's width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import tirx as tir

from .builder import Builder, Pointer, constant

__all__ = ["SIDE_BY_SIDE", "PackedCodes", "codes_per_step", "pack_codes", "piece_widths"]

SIDE_BY_SIDE = 16
"""Codes of one vector."""

Bytes = npt.NDArray[np.uint8]


def piece_widths(bits: int) -> list[int]:
    """The bits of a code's pieces, the lowest bits first.

    >>> piece_widths(7), piece_widths(8)
    ([4, 2, 1], [8])
    """
    return [width for width in (8, 4, 2, 1) if bits & width]


def codes_per_step(bits: int) -> int:
    """Codes that are unpacked together: sixteen for each piece in a byte of the narrowest pieces."""
    return SIDE_BY_SIDE * 8 // min(piece_widths(bits))


def pack_codes(codes: Bytes, bits: int) -> Bytes:
    """uint8 [n], n a multiple of `codes_per_step` -> uint8 [n * bits / 8].

    >>> pack_codes(np.arange(32, dtype=np.uint8) // 16 + 1, 4).tolist() == [0x21] * 16
    True
    """
    steps = codes.reshape(-1, codes_per_step(bits) // SIDE_BY_SIDE, SIDE_BY_SIDE)
    planes, done = [], 0
    for width in piece_widths(bits):
        pieces = (steps >> done & ((1 << width) - 1)).reshape(len(steps), -1, 8 // width, SIDE_BY_SIDE)
        packed = np.zeros((len(steps), pieces.shape[1], SIDE_BY_SIDE), np.uint8)
        for place in range(8 // width):
            packed |= pieces[:, :, place] << place * width
        planes.append(packed)
        done += width
    return np.ascontiguousarray(np.concatenate(planes, axis=1)).reshape(-1)


class PackedCodes:
    """One step of codes at a byte of `source`, unpacked by `vector` where it is used."""

    def __init__(self, b: Builder, source: Pointer, at: Any, bits: int) -> None:
        self.b, self.source, self.at, self.bits = b, source, at, bits

    def vector(self, first: int, lanes: int) -> Any:
        """int32: `lanes` (at most sixteen, a divisor of it) neighbouring codes of the step from `first`."""
        number, lane = divmod(first, SIDE_BY_SIDE)
        code, done, before = None, 0, 0
        vectors = codes_per_step(self.bits) // SIDE_BY_SIDE
        for width in piece_widths(self.bits):
            byte, place = divmod(number, 8 // width)
            at = self.at + (before + byte) * SIDE_BY_SIDE + lane
            piece = tir.Cast("int32" if lanes == 1 else f"int32x{lanes}", self.source.load(at, lanes))
            if place:
                piece = tir.shift_right(piece, constant(place * width, "int32", lanes))
            if (place + 1) * width < 8:
                piece = piece & constant((1 << width) - 1, "int32", lanes)
            if done:
                piece = tir.shift_left(piece, constant(done, "int32", lanes))
            code = piece if code is None else code | piece
            before += vectors * width // 8
            done += width
        return code
