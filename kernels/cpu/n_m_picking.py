"""The positions of an N:M weight as kernels read them, and the activations that they pick.

The M activations of a group lie in one register. Registers of 8 and 16 float32 are permuted: positions of an
output and of consecutive steps (g, s) share a 32-bit word, which is shifted from step to step, and the
permutation ignores the bits above. Registers of 128 bits are picked from by bytes: the positions of four
outputs are a byte, for which a table tells the bytes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx as tir

from .builder import Builder, Pointer, int32
from .isa import Isa
from .permuting import can_permute, can_swizzle, permute, repeated, swizzle
from .register_tile import tile_runs

__all__ = ["NMForm", "Picking", "pack_values", "picking_for"]

_LEAST_BITS = 2  # of a position in a word: a chunk has at most 16 steps


@dataclass(frozen=True)
class NMForm:
    """N of M along `depth` inputs."""

    kept: int
    of: int
    depth: int

    @property
    def groups(self) -> int:
        """Groups along the inputs."""
        return -(-self.depth // self.of)

    @property
    def steps(self) -> int:
        """Weights that are stored of each output."""
        return self.groups * self.kept

    @property
    def bits(self) -> int:
        """Bits of a position in a word."""
        return max(_LEAST_BITS, (self.of - 1).bit_length())


class Picking(ABC):
    """How the activations of stored weights are found."""

    table: np.ndarray | None = None
    """A constant that kernels read beside the positions."""

    def __init__(self, isa: Isa, form: NMForm) -> None:
        self.isa, self.form = isa, form

    @property
    @abstractmethod
    def items(self) -> int:
        """Items of a vector of outputs for all steps."""

    @property
    @abstractmethod
    def chunk(self) -> int:
        """Groups that are multiplied in one turn of a loop."""

    @property
    @abstractmethod
    def chunk_items(self) -> int:
        """Items of a vector of outputs for a chunk."""

    @abstractmethod
    def pack(self, positions: np.ndarray, most: int) -> np.ndarray:
        """`positions` [O, G, N], O whole vectors, in tiles of `most` vectors."""

    @abstractmethod
    def indices(
        self, b: Builder, words: Pointer, table: Pointer | None, at: Any, vectors: int
    ) -> Callable[[int, int], Any]:
        """(step of the chunk, vector) to what `pick` takes; a chunk's items begin at `at`. Steps in order."""

    @abstractmethod
    def row(self, b: Builder, left: Pointer, offset: Any) -> Any:
        """The activations of a group in a register."""

    @abstractmethod
    def pick(self, row: Any, index: Any) -> Any:
        """A vector of activations."""


def picking_for(isa: Isa, form: NMForm) -> Picking | None:
    """What the processor does fast, None where groups do not fit its registers."""
    if can_permute(isa) and isa.lanes % form.of == 0:
        return _Permuted(isa, form)
    return _Swizzled(isa, form) if can_swizzle(isa) and form.of in (2, 4) else None


class _Permuted(Picking):
    @property
    def _per_word(self) -> int:
        return 32 // self.form.bits

    @property
    def chunk(self) -> int:
        """Those whose positions fit a word."""
        return max(1, self._per_word // self.form.kept)

    def _words(self, groups: int) -> int:
        return -(-groups * self.form.kept // self._per_word)

    @property
    def items(self) -> int:
        whole, rest = divmod(self.form.groups, self.chunk)
        return (whole * self._words(self.chunk) + self._words(rest)) * self.isa.lanes

    @property
    def chunk_items(self) -> int:
        return self._words(self.chunk) * self.isa.lanes

    def pack(self, positions: np.ndarray, most: int) -> np.ndarray:
        form = self.form
        cut = form.groups // self.chunk * self.chunk
        parts = [positions[:, :cut].reshape(-1, self.chunk * form.kept)] if cut else []
        if cut < form.groups:
            parts.append(positions[:, cut:].reshape(len(positions), -1))
        words = np.concatenate([self._packed(part).reshape(len(positions), -1) for part in parts], axis=1)
        return _in_tiles(words.view(np.int32), self.isa.lanes, most)

    def _packed(self, positions: np.ndarray) -> np.ndarray:
        """[chunks, steps] as words [chunks, words]."""
        count = -(-positions.shape[1] // self._per_word)
        padded = np.zeros((len(positions), count * self._per_word), np.uint32)
        padded[:, : positions.shape[1]] = positions
        shifts = (np.arange(self._per_word) * self.form.bits).astype(np.uint32)
        words: np.ndarray = np.bitwise_or.reduce(padded.reshape(-1, count, self._per_word) << shifts, axis=-1)
        return words

    def indices(
        self, b: Builder, words: Pointer, table: Pointer | None, at: Any, vectors: int
    ) -> Callable[[int, int], Any]:
        lanes, held = self.isa.lanes, dict[tuple[int, int], Any]()

        def index(step: int, vector: int) -> Any:
            word, place = divmod(step, self._per_word)
            if (word, vector) not in held:
                offset = at + (word * vectors + vector) * lanes
                held[word, vector] = b.hold(words.load(offset, lanes))
            shift = tir.Broadcast(int32(place * self.form.bits), lanes)
            found = held[word, vector]
            return b.hold(tir.shift_right(found, shift)) if place else found

        return index

    def row(self, b: Builder, left: Pointer, offset: Any) -> Any:
        of = self.form.of
        return b.hold(repeated(left.load(offset, of), of, self.isa.lanes // of))

    def pick(self, row: Any, index: Any) -> Any:
        return permute(self.isa, row, index)


class _Swizzled(Picking):
    @property
    def table(self) -> np.ndarray:  # type: ignore[override]
        """(256, 16) uint8: the bytes of the four float32 whose positions a byte tells."""
        lanes = np.arange(256)[:, None] >> 2 * np.arange(4) & 3
        return (4 * lanes[:, :, None] + np.arange(4)).reshape(256, 16).astype(np.uint8)

    @property
    def items(self) -> int:
        return self.form.steps

    @property
    def chunk(self) -> int:
        """One: of a long sum, compilers to WebAssembly evaluate all terms before they add the first."""
        return 1

    @property
    def chunk_items(self) -> int:
        return self.form.kept

    def pack(self, positions: np.ndarray, most: int) -> np.ndarray:
        vectors = positions.reshape(-1, 4, self.form.steps)
        shifts = 2 * np.arange(4)[:, None]
        joined = np.bitwise_or.reduce(vectors.astype(np.uint32) << shifts, axis=1).astype(np.uint8)
        return _in_tiles(joined, 1, most)

    def indices(
        self, b: Builder, words: Pointer, table: Pointer | None, at: Any, vectors: int
    ) -> Callable[[int, int], Any]:
        assert table is not None

        def index(step: int, vector: int) -> Any:
            code = b.let(tir.Cast("int32", words.load(at + (step * vectors + vector))))
            return b.hold(table.load(code * 16, 16))

        return index

    def row(self, b: Builder, left: Pointer, offset: Any) -> Any:
        of = self.form.of
        return b.hold(tir.reinterpret("uint8x16", repeated(left.load(offset, of), of, 4 // of)))

    def pick(self, row: Any, index: Any) -> Any:
        return tir.reinterpret("float32x4", swizzle(self.isa, row, index))


def pack_values(
    values: np.ndarray, positions: np.ndarray, picking: Picking, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """`values` and `positions` [O, G, N] as kernels read them, flat: the weights float32, and the positions.

    Both are cut into tiles of `most` vectors of outputs (`tile_runs`), each [steps, vectors, lanes].
    """
    form, lanes = picking.form, picking.isa.lanes
    padding = [(0, -len(values) % lanes), (0, 0), (0, 0)]
    weights, places = np.pad(values.astype(np.float32), padding), np.pad(positions, padding)
    rest = form.depth - (form.groups - 1) * form.of
    beyond = places[:, -1] >= rest  # of the last group: nothing is read there
    weights[:, -1][beyond] = 0
    places[:, -1][beyond] = 0
    steps = weights.reshape(len(weights), -1)
    return _in_tiles(steps, lanes, most), picking.pack(places.astype(np.uint32), most)


def _in_tiles(rows: np.ndarray, lanes: int, most: int) -> np.ndarray:
    """[vectors * lanes, items] as tiles [items, vectors, lanes], flat."""
    parts = []
    for first, width, count in tile_runs(len(rows) // lanes, most):
        chosen = rows[first * lanes : (first + count * width) * lanes]
        parts.append(chosen.reshape(count, width, lanes, -1).transpose(0, 3, 1, 2).ravel())
    return np.concatenate(parts)
