"""Products of neighbouring rows of an image with the taps of a window, channel by channel.

    acc[c] += Σ_d x[d][c] · w[d][c]      d < depth, exact in int32

The instructions of `integer_dot` sum `depth` neighbouring bytes. Depthwise convolution has them in different
rows: `joined` interleaves vectors of `depth` rows once, for all windows that contain them.

A unit of channels is a register of bytes, and four registers of int32. x86 interleaves, and packs int32 into
bytes, within every 128 bits, so sums stay in the order that this gives: vector v holds channels 4v … 4v + 3
of every 16 (`TapDot.order`). Packing the four puts them in order again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32, lanes_of
from .integer_dot import Dot, integer_dot
from .isa import Isa

__all__ = ["VECTORS", "TapDot", "tap_dot"]

VECTORS = 4  # of int32, for the channels of a unit

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TapDot:
    """`depth` rows at once; without a `dot` each product is an extended multiply-add of int16.

    `isa` has the vectors of a unit, which may be narrower than the machine's.
    """

    isa: Isa
    activations: str  # "int8" or "uint8"
    dot: Dot | None
    weight_dtype: str

    @property
    def name(self) -> str:
        """For reports and keys."""
        return f"{self.dot.name if self.dot else 'smlal'} {self.lanes}"

    @property
    def lanes(self) -> int:
        """Channels of a vector of sums."""
        return self.isa.lanes

    @property
    def unit(self) -> int:
        """Channels that are computed together."""
        return VECTORS * self.lanes

    @property
    def depth(self) -> int:
        """Rows that are summed at once."""
        return self.dot.depth if self.dot else 1

    @property
    def words(self) -> int:
        """Words of 4 bytes of the interleaved rows of one vector of sums."""
        return self.lanes * self.depth * (2 if self._wide else 1) // 4

    @property
    def _wide(self) -> bool:
        return self.dot is None or self.dot.reads == "int16"

    @property
    def _moved(self) -> int:
        """What is added to activations before they are multiplied."""
        assert self.activations in ("int8", "uint8")
        wanted = "uint8" if self.depth == 2 else self.dot.reads if self.dot else self.activations
        return {("int8", "uint8"): 128, ("uint8", "int8"): -128}.get((self.activations, wanted), 0)

    def zero_point(self, value: int) -> int:
        """The zero point of activations as they are multiplied."""
        return value + self._moved

    def order(self) -> Array:
        """(4, lanes): which channel of a unit each lane of each vector holds."""
        block, lane = np.divmod(np.arange(self.lanes), 4)
        return 16 * block + lane + 4 * np.arange(VECTORS)[:, None]

    def natural(self, b: Builder, sums: Sequence[Any]) -> list[Any]:
        """Four vectors with the channels in their own order."""
        if self.lanes == 4:
            return list(sums)
        places = np.argsort(self.order().reshape(-1)).reshape(VECTORS, -1)
        held = [b.hold(s) for s in sums]
        return [tir.Shuffle(held, [int32(int(i)) for i in row]) for row in places]

    def pack(self, weights: Array) -> Array:
        """Weights (…, depth, channels of a unit) as four vectors one after another."""
        lead = weights.shape[:-2]
        turned = np.moveaxis(weights[..., self.order()], -3, -1)  # a lane's weights side by side
        return np.ascontiguousarray(turned).reshape(*lead, -1).astype(self.weight_dtype)

    def joined(self, b: Builder, rows: Sequence[Any]) -> list[Any]:
        """Activations of `depth` rows (a vector of bytes each) for four vectors of sums, as float32 words."""
        if self._moved:
            sign = constant(-128 if self.activations == "int8" else 128, self.activations, self.unit)
            rows = [row ^ sign for row in rows]
        octets = [b.hold(tir.reinterpret(f"uint8x{self.unit}", row)) for row in rows]
        if self.depth == 1:
            parts = [self._extended(rows[0], v) for v in range(VECTORS)]
        elif self.depth == 2:
            zero = constant(0, "uint8", self.unit)
            pairs = [b.hold(half) for half in _interleaved(octets[0], octets[1], 1)]
            parts = [part for pair in pairs for part in _interleaved(pair, zero, 1)]
        else:
            low, high = (_interleaved(octets[i], octets[i + 1], 1) for i in (0, 2))
            pairs = [b.hold(half) for half in (low[0], high[0], low[1], high[1])]
            parts = [part for i in (0, 2) for part in _interleaved(pairs[i], pairs[i + 1], 2)]
        return [tir.reinterpret(f"float32x{self.words}", part) for part in parts]

    def _extended(self, row: Any, vector: int) -> Any:
        part = tir.Shuffle([row], [int32(vector * self.lanes + i) for i in range(self.lanes)])
        return tir.Cast(f"int16x{self.lanes}", part)

    def load(self, scratch: Pointer, offset: Any) -> Any:
        """Interleaved activations of one vector of sums, from the words at `offset`."""
        kind = "int16" if self._wide else self.dot.reads if self.dot else ""
        return tir.reinterpret(f"{kind}x{self.lanes * self.depth}", scratch.load(offset, self.words))

    def weights(self, source: Pointer, offset: Any) -> Any:
        """Weights of one vector of sums."""
        return source.load(offset, self.lanes * self.depth)

    def accumulate(self, b: Builder, acc: Any, x: Any, w: Any) -> Any:
        """`acc` with the products of `depth` rows."""
        if self.dot is not None:
            return self.dot.accumulate(b, acc, x, w)
        return acc + tir.Cast(f"int32x{self.lanes}", x) * tir.Cast(f"int32x{self.lanes}", w)


def _interleaved(first: Any, second: Any, width: int) -> list[Any]:
    """Items of `width` bytes in turns: of the lower half of every 128 bits, and of the upper."""
    octets = lanes_of(first)
    items = np.arange(2 * octets).reshape(2, octets // 16, 2, 8 // width, width)
    turns = items.transpose(2, 1, 3, 0, 4).reshape(2, -1)  # half, 128 bits, item, vector, byte
    return [tir.Shuffle([first, second], [int32(int(i)) for i in half]) for half in turns]


def tap_dot(isa: Isa, activations: str, weight_range: tuple[int, int], pitch: int) -> TapDot:
    """The fastest exact way for weights in `weight_range` and pixels of `pitch` bytes."""
    lanes = min(
        (n for n in (4, 8, 16) if n <= isa.lanes and VECTORS * n <= pitch),
        key=lambda n: -(-pitch // (VECTORS * n)) * (n + isa.lanes / 4),  # narrow vectors are not as fast
    )
    unit = replace(isa, target=replace(isa.target, vector_bits=32 * lanes))
    dot = integer_dot(unit, activations, weight_range)
    if dot.paired == dot.depth:  # taps are few: int16 ones need not be widened each time
        return TapDot(unit, activations, dot, "int16" if dot.reads == "int16" else dot.weight_dtype)
    return TapDot(unit, activations, None, "int16")
