"""The geometry of a sliding window over a plane: convolutions and pooling share it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Window"]


@dataclass(frozen=True)
class Window:
    """Sizes as (height, width); `pads` as (top, left, bottom, right), ONNX's order."""

    in_size: tuple[int, int]
    out_size: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def pixels(self) -> int:
        """Output pixels of one plane."""
        return self.out_size[0] * self.out_size[1]

    @property
    def taps(self) -> int:
        """Elements of one window."""
        return self.kernel[0] * self.kernel[1]

    @property
    def is_pointwise(self) -> bool:
        """Each output pixel reads just the same pixel of the input."""
        return self.taps == 1 and self.strides == (1, 1) and not any(self.pads)
