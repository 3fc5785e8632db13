"""Images between planes and pixels: bytes change places in registers, 16 pixels × 16 channels at once.

Elementwise functions on the way (a rounding before, a scale behind) are computed on vectors of pixels of one
channel, which is how planes are read and written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .arithmetic import cast
from .builder import Builder, Pointer, constant, int32
from .integer_epilogue import Requantize, evaluate_shared
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .narrowing import narrow
from .tensor import Tensor

__all__ = ["BLOCK", "PixelsToPlanes", "PlanesToPixels", "has_planes"]

BLOCK = 16  # pixels, and channels where there are more than 4


def has_planes(tensor: Tensor) -> bool:
    """Whether an image's pixels of one channel follow one another."""
    return len(tensor.shape) == 4 and tensor.strides[3] == 1 and tensor.strides[2] == tensor.shape[3]


class _Turn(Kernel):
    """Blocks of pixels; the last one ends with the image, which has at least one whole."""

    image: Tensor

    @property
    def _pixels(self) -> int:
        return self.image.shape[2] * self.image.shape[3]

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        scope = Scope(b, pointers)
        images, channels = self.image.shape[:2]
        step = BLOCK if self.image.strides[3] >= BLOCK else self.image.strides[3]
        blocks, (full, rest) = -(-self._pixels // BLOCK), divmod(channels, step)
        with b.split(images * blocks) as i:
            n = b.let(tir.truncdiv(i, int32(blocks)), "n")
            pixel = b.let(tir.min((i - n * blocks) * BLOCK, int32(self._pixels - BLOCK)), "pixel")
            if full:
                with b.each(full) as group:
                    self._block(scope, n, pixel, b.let(group * step, "c"), step, step)
            if rest:
                self._block(scope, n, pixel, int32(full * step), rest, step)

    def _block(self, scope: Scope, n: Any, pixel: Any, channel: Any, count: int, step: int) -> None:
        raise NotImplementedError

    def _at_pixels(self, n: Any, pixel: Any, channel: Any) -> Any:
        """Where the bytes of a block's first pixel lie."""
        strides = self.image.strides
        return n * strides[0] + pixel * strides[3] + channel

    def _evaluated(
        self, scope: Scope, tree: Lazy, place: tuple[Any, Any, Any], lanes: int, octets: Any = None
    ) -> Any:
        """The tree for `lanes` pixels of a channel; `octets` are those of the image, where it is read."""
        n, pixel, channel = place

        def operand(leaf: Leaf) -> Any:
            tensor = leaf.tensor
            if tensor is self.image:
                return octets
            if tensor.shape == self.image.shape:
                at = n * tensor.strides[0] + channel * tensor.strides[1] + pixel
                return scope.load(tensor, at, lanes)
            which = 0 if tensor.size == 1 else channel
            return tir.Broadcast(scope.load(tensor, int32(which)), lanes)

        return evaluate_shared(tree, scope, {}, None, operand)


@dataclass(eq=False)
class PlanesToPixels(_Turn):
    """`image` (pixel-major) = `tree` of tensors with planes, rounded unless it is bytes."""

    tree: Lazy
    requantize: Requantize | None
    image: Tensor
    family = "turn"

    def reads(self) -> Sequence[Tensor]:
        return leaves(self.tree)

    def writes(self) -> Sequence[Tensor]:
        return (self.image,)

    @property
    def key(self) -> tuple[Any, ...]:
        own = (self.requantize, Leaf(self.image).key, self.tree.key, sharing(self.reads(), self.tree))
        return ("planes-to-pixels", *own)

    def _block(self, scope: Scope, n: Any, pixel: Any, channel: Any, count: int, step: int) -> None:
        b = scope.builder
        rows = [b.hold(self._octets(scope, n, pixel, channel + c)) for c in range(count)]
        rows += [constant(0, "uint8", BLOCK)] * (step - count)
        start = b.let(self._at_pixels(n, pixel, channel), "to")
        out, apart = scope.pointers[id(self.image)], BLOCK if step == 4 else self.image.strides[3]
        for i, octets in enumerate(_turned(b, rows)):
            b.store(out, start + i * apart, tir.reinterpret(f"{self.image.dtype}x{BLOCK}", octets))

    def _octets(self, scope: Scope, n: Any, pixel: Any, channel: Any) -> Any:
        """A block's pixels of one channel, as uint8."""
        b, q = scope.builder, self.requantize
        lanes = BLOCK if q is None else min(BLOCK, b.isa.lanes)
        values = [
            self._evaluated(scope, self.tree, (n, pixel + v, channel), lanes) for v in range(0, BLOCK, lanes)
        ]
        if q is None:
            return tir.reinterpret(f"uint8x{BLOCK}", values[0])
        integers = [b.hold(q.integers(b, b.hold(value), lanes)) for value in values]
        ((_, octets),) = narrow(b, integers, q.dtype, q.low, q.high)
        return tir.reinterpret(f"uint8x{BLOCK}", octets)


@dataclass(eq=False)
class PixelsToPlanes(_Turn):
    """`out` (planes) = `tree` of the pixel-major `image` and tensors with planes."""

    tree: Lazy
    image: Tensor
    out: Tensor
    family = "turn"

    def reads(self) -> Sequence[Tensor]:
        return leaves(self.tree)

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        reads = self.reads()
        which = next(i for i, tensor in enumerate(reads) if tensor is self.image)
        return ("pixels-to-planes", which, Leaf(self.out).key, self.tree.key, sharing(reads, self.tree))

    def _block(self, scope: Scope, n: Any, pixel: Any, channel: Any, count: int, step: int) -> None:
        b, source = scope.builder, scope.pointers[id(self.image)]
        start = b.let(self._at_pixels(n, pixel, channel), "from")
        apart = BLOCK if step == 4 else self.image.strides[3]
        loads = [b.hold(source.load(start + i * apart, BLOCK)) for i in range(step)]
        rows = _turned(b, loads) if step == BLOCK else _parted(b, loads)
        out, to = scope.pointers[id(self.out)], self.out.strides
        plain = isinstance(self.tree, Leaf)
        lanes = BLOCK if plain else min(BLOCK, b.isa.lanes)
        base = b.let(n * to[0] + channel * to[1] + pixel, "to")
        for c, octets in enumerate(rows[:count]):
            for v in range(0, BLOCK, lanes):
                part = octets if lanes == BLOCK else _part(octets, v, lanes)
                place = (n, pixel + v, channel + c)
                value = self._evaluated(scope, self.tree, place, lanes, b.hold(part))
                b.store(out, base + c * to[1] + v, cast(value, self.out.dtype))


def _turned(b: Builder, rows: list[Any]) -> list[Any]:
    """16 vectors of 16 bytes with rows and columns exchanged; 4 vectors: the columns one after another.

    Every step is a perfect shuffle of all bytes: those of vector i with those of i + half in turns.
    """
    half, steps = len(rows) // 2, len(rows).bit_length() - 1
    for _ in range(steps):
        mixed: list[Any] = []
        for i in range(half):
            for start in (0, BLOCK // 2):
                places = [int32(side * BLOCK + start + k) for k in range(BLOCK // 2) for side in (0, 1)]
                mixed.append(b.hold(tir.Shuffle([rows[i], rows[i + half]], places)))
        rows = mixed
    return rows


def _parted(b: Builder, rows: list[Any]) -> list[Any]:
    """4 vectors of 4 pixels of 4 bytes each: a vector for each byte of the pixels."""
    return [
        b.hold(tir.Shuffle(rows, [int32(4 * pixel + c) for pixel in range(BLOCK)])) for c in range(len(rows))
    ]


def _part(vector: Any, first: int, count: int) -> Any:
    return tir.Shuffle([vector], [int32(first + i) for i in range(count)])
