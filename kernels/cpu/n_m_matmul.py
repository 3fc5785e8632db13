"""Rows times a weight that stores N of every M inputs.

    out[m, n] = epilogue(bias[n] + Σ_k left[m, k] · w[k, n])

Vectors run along the outputs. The M activations of a group lie in one register, repeated to its end; a
permutation by the stored positions brings each output the activation that its weight belongs to:

    acc[j] += values[g, s, j] * permute(x[g * M : (g + 1) * M], positions[g, s, j])      s < N

Positions of one output and of consecutive steps (g, s) share a 32-bit word, which is shifted from step to
step; the permutation ignores the bits above. So a step costs one shift, one permutation and one multiply-add
for all lanes, and the shift is shared by the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx as tir

from .builder import Builder, Pointer, int32
from .epilogue import evaluate
from .isa import Isa
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .matmul import row_operand
from .permuting import can_permute, permute, repeated
from .register_tile import RegisterTile, tile_runs
from .storing import store_first
from .tensor import Tensor

__all__ = ["NMForm", "NMMatmul", "handles", "pack_n_m"]

_LEAST_BITS = 2  # of a position in a word: a chunk has at most 16 steps


@dataclass(frozen=True)
class NMForm:
    """N of M along `depth` inputs."""

    kept: int
    of: int
    depth: int

    @property
    def groups(self) -> int:
        return -(-self.depth // self.of)

    @property
    def bits(self) -> int:
        """Bits of a position in a word."""
        return max(_LEAST_BITS, (self.of - 1).bit_length())

    @property
    def chunk(self) -> tuple[int, int]:
        """(groups, words): so many groups have their positions in so many words of each output."""
        groups = max(1, 32 // self.bits // self.kept)
        return groups, self.words(groups)

    def words(self, groups: int) -> int:
        """Words for the positions of `groups` groups."""
        return -(-groups * self.kept // (32 // self.bits))

    @property
    def all_words(self) -> int:
        """Words of each output."""
        groups, words = self.chunk
        whole, rest = divmod(self.groups, groups)
        return whole * words + self.words(rest)


def handles(isa: Isa, form: NMForm) -> bool:
    """Whether there is a kernel: groups divide a register."""
    return can_permute(isa) and isa.lanes % form.of == 0


def pack_n_m(
    values: np.ndarray, positions: np.ndarray, form: NMForm, lanes: int, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """`values` and `positions` [O, G, N] as kernels read them: flat float32 and int32.

    Both are cut into tiles of `most` vectors of outputs (`tile_runs`), each [steps or words, vectors, lanes].
    """
    outputs = -(-len(values) // lanes) * lanes
    rest = form.depth - (form.groups - 1) * form.of
    beyond = positions[:, -1] >= rest  # of the last group: nothing is read there
    values, positions = values.astype(np.float32), positions.astype(np.uint32)
    values[:, -1][beyond] = 0
    positions[:, -1][beyond] = 0
    steps = np.zeros((outputs, form.groups * form.kept), np.float32)
    steps[: len(values)] = values.reshape(len(values), -1)
    words = np.zeros((outputs, form.all_words), np.uint32)
    words[: len(values)] = _words(positions, form)
    tiles = []
    for packed in (steps, words.view(np.int32)):
        parts = []
        for first, width, count in tile_runs(outputs // lanes, most):
            chosen = packed[first * lanes : (first + count * width) * lanes]
            parts.append(chosen.reshape(count, width, lanes, -1).transpose(0, 3, 1, 2).ravel())
        tiles.append(np.concatenate(parts))
    return tiles[0], tiles[1]


def _words(positions: np.ndarray, form: NMForm) -> np.ndarray:
    """Positions [O, G, N] in words [O, all_words]."""
    groups = form.chunk[0]
    cut = form.groups // groups * groups
    parts = [positions[:, :cut].reshape(-1, groups * form.kept)] if cut else []
    if cut < form.groups:
        parts.append(positions[:, cut:].reshape(len(positions), -1))
    return np.concatenate([_chunk_words(part, form).reshape(len(positions), -1) for part in parts], axis=1)


def _chunk_words(positions: np.ndarray, form: NMForm) -> np.ndarray:
    """[chunks, steps] as words [chunks, words]."""
    per = 32 // form.bits
    count = -(-positions.shape[1] // per)
    padded = np.zeros((len(positions), count * per), np.uint32)
    padded[:, : positions.shape[1]] = positions
    shifts = (np.arange(per) * form.bits).astype(np.uint32)
    shifted = padded.reshape(-1, count, per) << shifts
    words: np.ndarray = np.bitwise_or.reduce(shifted, axis=-1)
    return words


@dataclass(eq=False)
class NMMatmul(Kernel):
    """`left`: (M, K) contiguous; `values`, `words`: as `pack_n_m` gives them; `out`: (M, N)."""

    left: Tensor
    values: Tensor
    words: Tensor
    bias: Tensor | None
    out: Tensor
    form: NMForm
    tile: tuple[int, int]
    epilogue: Lazy
    family = "n-m"

    def reads(self) -> Sequence[Tensor]:
        own = [self.left, self.values, self.words] + ([self.bias] if self.bias else [])
        return list({id(t): t for t in [*own, *leaves(self.epilogue)]}.values())

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        tensors = [Leaf(t).key for t in (*self.reads(), self.out)]
        shared = sharing(self.reads(), self.epilogue)
        return (
            "n-m",
            self.form,
            self.tile,
            self.bias is not None,
            self.epilogue.key,
            shared,
            *tensors,
        )

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        work = _Work(self, b, pointers)
        rows, outputs = self.out.shape
        full, tail = divmod(rows, self.tile[0])
        blocks = full + bool(tail)
        for first, width, count in tile_runs(-(-outputs // b.isa.lanes), self.tile[1]):
            with b.split_grid(count, blocks) as (t, block, some):
                vector = b.let(t * width + first)
                if full:
                    end = b.let(tir.min(block + int32(some), int32(full)))
                    with b.loop(b.let(end - block), block) as i:
                        work.block(b.let(i * self.tile[0]), self.tile[0], vector, width)
                if tail:
                    with b.when(block + int32(some) > full):
                        work.block(int32(full * self.tile[0]), tail, vector, width)


@dataclass
class _Work:
    kernel: NMMatmul
    b: Builder
    pointers: dict[int, Pointer]

    def block(self, row: Any, height: int, vector: Any, width: int) -> None:
        """`height` rows from `row` times `width` vectors of outputs from `vector`."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        tile = RegisterTile(b, height, width, lanes)
        bias = self.pointers[id(k.bias)] if k.bias else None
        tile.start((lambda r, j: bias.load((vector + j) * lanes, lanes)) if bias else None)
        values = b.let(vector * (lanes * k.form.groups * k.form.kept), "values")
        words = b.let(vector * (lanes * k.form.all_words), "words")
        starts = [b.let((row + r) * k.left.shape[1]) for r in range(height)]
        groups, count = k.form.chunk
        whole, rest = divmod(k.form.groups, groups)
        step = width * lanes
        with b.loop(whole) as i:
            at = b.let(values + i * (groups * k.form.kept * step))
            self._chunk(tile, groups, at, b.let(words + i * (count * step)), starts, i * (groups * k.form.of))
        if rest:
            at = b.let(values + whole * groups * k.form.kept * step)
            read = b.let(words + whole * count * step)
            self._chunk(tile, rest, at, read, starts, int32(whole * groups * k.form.of))
        tile.finish(lambda r, j, value: self._store(value, b.let(row + r), vector + j))

    def _chunk(
        self, tile: RegisterTile, groups: int, values: Any, words: Any, starts: list[Any], column: Any
    ) -> None:
        """Adds `groups` groups whose positions begin with the word at `words`."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        step, per = tile.vectors * lanes, 32 // k.form.bits
        word_at, value_at = self.pointers[id(k.words)], self.pointers[id(k.values)]
        held: list[Any] = []
        for group in range(groups):
            rows = [self._activations(start + (column + group * k.form.of)) for start in starts]
            for slot in range(k.form.kept):
                number = group * k.form.kept + slot
                if number % per == 0:
                    offset = words + number // per * step
                    held = [b.hold(word_at.load(offset + j * lanes, lanes)) for j in range(tile.vectors)]
                for j in range(tile.vectors):
                    index = b.hold(_shifted(held[j], number % per * k.form.bits, lanes))
                    weight = b.hold(value_at.load(values + (number * step + j * lanes), lanes))
                    for r, row in enumerate(rows):
                        picked = permute(b.isa, row, index)
                        tile.set(r, j, b.isa.multiply_add(picked, weight, tile.get(r, j)))

    def _activations(self, offset: Any) -> Any:
        """The activations of a group, over and over in one register."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        loaded = self.pointers[id(k.left)].load(offset, k.form.of)
        return b.hold(repeated(loaded, k.form.of, lanes // k.form.of))

    def _store(self, value: Any, row: Any, vector: Any) -> None:
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        scope, out = Scope(b, self.pointers), self.pointers[id(k.out)]
        index: list[Any] = []
        column = b.let(vector * lanes)
        result = evaluate(
            k.epilogue, scope, value, lambda leaf: row_operand(scope, leaf, index, row, column, lanes)
        )
        offset, outputs = b.let(row * k.out.shape[1] + column), k.out.shape[1]
        if not outputs % lanes:
            b.store(out, offset, result)
            return
        result = b.hold(result)
        with b.when(column + lanes > outputs):
            store_first(b, out, offset, result, lanes, outputs % lanes)
        with b.when(column + lanes <= outputs):
            b.store(out, offset, result)


def _shifted(word: Any, bits: int, lanes: int) -> Any:
    if not bits:
        return word
    return tir.shift_right(word, tir.Broadcast(int32(bits), lanes))
