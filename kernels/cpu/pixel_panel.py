"""A tile's pixels of every tap, copied side by side so that all output channels read them in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .builder import Builder, Pointer
from .plane_reader import PlaneReader
from .planes import PlaneLayout

__all__ = ["PixelPanel"]


@dataclass(frozen=True)
class PixelPanel:
    """panel[(c, tap), p]; rows are `pitch` elements apart, and a window's rows have `taps_across` taps.

    Without a layout the window has one tap, and planes are read as they are.
    """

    b: Builder
    taps: int
    taps_across: int
    layout: PlaneLayout | None
    pitch: int

    def pack(
        self, source: Pointer, start: Any, plane: int, channels: int, pixel: Any, width: int, panel: Pointer
    ) -> None:
        """`width` vectors of pixels from `pixel`, of `channels` planes from offset `start`, `plane` apart."""
        b, lanes = self.b, self.b.isa.lanes
        readers = [self._reader(b.let(pixel + j * lanes)) for j in range(width)]
        with b.loop(channels) as c:
            from_plane = b.let(start + c * plane)
            for tap in range(self.taps):
                shift = self.layout.tap(*divmod(tap, self.taps_across)) if self.layout else 0
                row = (c * self.taps + tap) * self.pitch
                for j, read in enumerate(readers):
                    b.store(panel, row + j * lanes, read(source, from_plane + shift))

    def _reader(self, first: Any) -> Callable[[Pointer, Any], Any]:
        """Reads one vector of output pixels for any tap."""
        if self.layout is None:
            return lambda source, plane: source.load(plane + first, self.b.isa.lanes)
        return PlaneReader(self.b, self.layout, first).read
