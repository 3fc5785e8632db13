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
        assert self.word_bits > 8
        word, shift = divmod(number * self.bits, self.word_bits)
        value = self._shift(words[word], shift)
        if shift + self.bits > self.word_bits:
            value = value | self._shift(words[word + 1], shift - self.word_bits)
        return value

    def code(self, words: Sequence[Any], number: int) -> Any:
        """Code `number` of every lane."""
        word, shift = divmod(number * self.bits, self.word_bits)
        low = min(self.bits, self.word_bits - shift)  # bits in the first of two words
        value = self._shift(words[word], shift) & self._mask((1 << low) - 1)
        if low == self.bits:
            return value
        return value | (self._shift(words[word + 1], -low) & self._mask((1 << self.bits) - (1 << low)))

    def _mask(self, bits: int) -> Any:
        return constant(bits, self.dtype, self.lanes)

    def _shift(self, word: Any, right: int) -> Any:
        """Shifted right, or left where `right` is negative; bytes in pairs, as x86 and WebAssembly can."""
        if right == 0:
            return word
        if self.word_bits > 8:
            return _moved(word, right, self.dtype, self.lanes)
        pairs = tir.reinterpret(f"uint16x{self.lanes // 2}", word)
        return tir.reinterpret(f"uint8x{self.lanes}", _moved(pairs, right, "uint16", self.lanes // 2))


def _moved(value: Any, right: int, dtype: str, lanes: int) -> Any:
    by = constant(abs(right), dtype, lanes)
    return tir.shift_right(value, by) if right > 0 else tir.shift_left(value, by)
