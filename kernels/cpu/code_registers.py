"""Codes packed so that whole registers of them are unpacked at once, as `code_dot` multiplies them.

A code is cut into pieces of 8, 4, 2 or 1 bits (`code_planes.piece_widths`). A step is as many registers of
codes as the narrowest pieces fill one register; of each piece it stores registers, in which the pieces of
several registers of codes lie beside each other in every unit. So a register of codes is a shift and a mask
of one stored register for each piece.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import tirx as tir

from .builder import Builder, Pointer, constant
from .byte_planes import octet_lookup
from .code_dot import CodeDot
from .code_planes import piece_widths

__all__ = ["CodeRegisters"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class CodeRegisters:
    """How codes of `bits` bits lie in memory for `dot`.

    `levels`: of every code of 4 bits the number, 0 to 255, that stands in a register for it; none: itself.
    """

    dot: CodeDot
    bits: int
    levels: tuple[int, ...] = ()

    @property
    def registers(self) -> int:
        """Of codes, in a step."""
        return 8 * self.dot.unit // min(piece_widths(self.bits))

    @property
    def inputs(self) -> int:
        """Of a step."""
        return self.registers * self.dot.depth

    @property
    def octets(self) -> int:
        """That a step takes."""
        return self.inputs * self.dot.isa.lanes * self.bits // 8

    def pack(self, codes: Array) -> Array:
        """(…, inputs of whole steps, lanes) below 2 ** bits -> uint8 (…, steps, octets)."""
        lanes, depth, paired = self.dot.isa.lanes, self.dot.depth, self.dot.paired
        kind = np.dtype("u1" if self.dot.unit == 1 else "<u2")
        lead = codes.shape[:-2]
        turned = codes.reshape(*lead, -1, self.registers, depth // paired, paired, lanes).swapaxes(-1, -2)
        units = turned.reshape(*lead, -1, self.registers, depth * lanes).astype(kind)
        if self.dot.offset:
            units ^= kind.type(128)
        stored, done = [], 0
        for width in piece_widths(self.bits):
            many = 8 * self.dot.unit // width
            pieces = units >> kind.type(done) & kind.type((1 << width) - 1)
            pieces = pieces.reshape(*units.shape[:-2], -1, many, depth * lanes)
            packed = np.zeros((*pieces.shape[:-2], depth * lanes), kind)
            for place in range(many):
                packed |= pieces[..., place, :] << kind.type(place * width)
            stored.append(packed.reshape(*units.shape[:-2], -1))
            done += width
        return np.ascontiguousarray(np.concatenate(stored, axis=-1)).view(np.uint8)

    def unpack(self, b: Builder, source: Pointer, at: Any) -> list[Any]:
        """The registers of the step at octet `at`, uint8."""
        found: list[Any] = [None] * self.registers
        first, done = 0, 0
        for width in piece_widths(self.bits):
            many = 8 * self.dot.unit // width
            for stored in range(self.registers // many):
                word = b.hold(source.load(at + (first + stored) * self.dot.octets, self.dot.octets))
                for place in range(many):
                    piece = self._piece(word, width, place, done)
                    i = stored * many + place
                    found[i] = piece if found[i] is None else found[i] | piece
            first += self.registers // many
            done += width
        if self.levels:
            table = b.hold(self._table())
            found = [self._level(b, table, b.hold(register)) for register in found]
        return [b.hold(register) for register in found]

    def _table(self) -> Any:
        words = np.array(self.levels, np.uint8).view("<i4").tolist()
        many = self.dot.octets // 16
        entries = [constant(word, "int32") for word in words * many]
        vector = tir.Shuffle(entries, [constant(i, "int32") for i in range(4 * many)])
        return tir.reinterpret(f"uint8x{self.dot.octets}", vector)

    def _level(self, b: Builder, table: Any, codes: Any) -> Any:
        found = octet_lookup(b, table, codes, False)
        if self.dot.unit == 1:
            return found
        words = tir.reinterpret(f"uint16x{self.dot.octets // 2}", found)
        low = words & constant(0xFF, "uint16", self.dot.octets // 2)
        return tir.reinterpret(f"uint8x{self.dot.octets}", low)

    def _piece(self, word: Any, width: int, place: int, done: int) -> Any:
        """Piece `place` of every unit, where the bits of a code before it are `done`."""
        unit, octets = 8 * self.dot.unit, self.dot.octets
        right = place * width - done
        if right:
            kind, lanes = "uint16", octets // 2
            wide = tir.reinterpret(f"{kind}x{lanes}", word)
            by = constant(abs(right), kind, lanes)
            moved = tir.shift_right(wide, by) if right > 0 else tir.shift_left(wide, by)
            word = tir.reinterpret(f"uint8x{octets}", moved)
        if width == unit or (unit == 16 and not done and right + width == 16):
            return word
        mask = (1 << width) - 1 << done
        if unit == 8:
            return word & constant(mask, "uint8", octets)
        wide = tir.reinterpret(f"uint16x{octets // 2}", word) & constant(mask, "uint16", octets // 2)
        return tir.reinterpret(f"uint8x{octets}", wide)
