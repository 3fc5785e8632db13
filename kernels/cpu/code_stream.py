"""Codes of 1 to 8 bits in words, so that one shift moves the same code of every lane to the bottom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import tirx as tir

from .builder import constant

__all__ = ["CodeStream"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class CodeStream:
    """`lanes` streams of codes of `bits` bits in words of `word_bits`, lowest bit first, no bit between.

    A group is the least number of whole words that ends at the end of a code: 3-bit codes take 3 bits.
    """

    bits: int
    word_bits: int
    lanes: int

    @property
    def words(self) -> int:
        """Words of each lane in a group."""
        return self.bits // gcd(self.bits, self.word_bits)

    @property
    def codes(self) -> int:
        """Codes of each lane in a group."""
        return self.word_bits // gcd(self.bits, self.word_bits)

    @property
    def dtype(self) -> str:
        """Of the words in memory."""
        return f"uint{self.word_bits}"

    @property
    def items(self) -> int:
        """Words of a group, all lanes."""
        return self.words * self.lanes

    def pack(self, codes: Array) -> Array:
        """(…, codes, lanes) of integers below 2**bits → (…, words, lanes)."""
        position = np.arange(self.bits, dtype=np.uint8)[:, None]
        bits = (codes.astype(np.uint8)[..., None, :] >> position) & 1
        streams = bits.reshape(*codes.shape[:-2], self.words, self.word_bits, self.lanes)
        octets = np.packbits(streams, axis=-2, bitorder="little")
        return np.ascontiguousarray(octets.swapaxes(-1, -2)).view(self.dtype)[..., 0]

    def shifted(self, words: Sequence[Any], number: int) -> Any:
        """Code `number` of every lane in its low bits; what lies above them is to be ignored."""
        word, shift = divmod(number * self.bits, self.word_bits)
        value = self._shift(words[word], shift)
        if shift + self.bits > self.word_bits:
            value = value | self._shift(words[word + 1], shift - self.word_bits)
        return value

    def code(self, words: Sequence[Any], number: int) -> Any:
        """Code `number` of every lane."""
        return self.shifted(words, number) & constant((1 << self.bits) - 1, self.dtype, self.lanes)

    def _shift(self, word: Any, right: int) -> Any:
        """Shifted right, or left where `right` is negative."""
        if right == 0:
            return word
        by = constant(abs(right), self.dtype, self.lanes)
        return tir.shift_right(word, by) if right > 0 else tir.shift_left(word, by)
