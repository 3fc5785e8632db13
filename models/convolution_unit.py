"""What convolutional architectures are made of: convolution, batch norm, activation."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import nn

__all__ = ["convolution_unit", "scaled_channels"]


def convolution_unit(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    activation: Callable[[], nn.Module] | None = nn.ReLU6,
) -> nn.Sequential:
    """`conv` (padded to keep sizes), `bn`, `act`; no `act` where `activation` is None."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    parts: list[tuple[str, nn.Module]] = [("conv", convolution), ("bn", nn.BatchNorm2d(outputs))]
    if activation is not None:
        parts.append(("act", activation()))
    return nn.Sequential(OrderedDict(parts))


def scaled_channels(channels: int, width: float, least: float = 0.0) -> int:
    """`channels` · `width` rounded to a multiple of 8, at least 8 and at least `least` of the product.

    >>> scaled_channels(32, 0.75), scaled_channels(16, 0.75), scaled_channels(24, 0.5, least=0.9)
    (24, 16, 16)
    """
    exact = channels * width
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded + 8 if rounded < least * exact else rounded
