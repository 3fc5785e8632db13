"""MobileNet-v2 (Sandler et al. 2018, arXiv:1801.04381, table 2): inverted residuals, linear bottlenecks."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from ..calibration import calibrate_batch_norms
from ..convolution_unit import convolution_unit, scaled_channels
from ..initialising import initialise_convolutional
from ..samples import random_images

__all__ = ["OUTPUTS", "SUMMARY", "build", "samples"]

SUMMARY = "MobileNet-v2: inverted residuals with linear bottlenecks, 3.5 million weights at width 1.0"
OUTPUTS = ("logits",)

_STEM, _HEAD = 32, 1280
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, output channels at width 1.0, blocks, stride of the first block."""
_LEAST = 0.9  # rounding takes no more than a tenth of the channels away


class _InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = convolution_unit(inputs, hidden, 1) if expansion > 1 else nn.Identity()
        self.depthwise = convolution_unit(hidden, hidden, 3, stride=stride, groups=hidden)
        self.project = convolution_unit(hidden, outputs, 1, activation=None)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


def samples(size: int = 224) -> dict[str, torch.Tensor]:
    """One RGB image of `size` x `size`, channels first, float32."""
    return {"x": random_images(size)}


def build(*, width: float = 1.0, size: int = 224, classes: int = 1000, seed: int = 0) -> nn.Module:
    """The network in evaluation mode: x [n, 3, size, size] float32 -> logits [n, classes] float32.

    Weights are drawn by He's rule from `seed`, batch norms calibrated on random images. `width` multiplies
    the channels of every layer but the last convolution, which grows only.
    """
    generator = torch.Generator().manual_seed(seed)
    channels = scaled_channels(_STEM, width, _LEAST)
    layers: list[tuple[str, nn.Module]] = [("stem", convolution_unit(3, channels, 3, stride=2))]
    for expansion, full, count, first_stride in _STAGES:
        wider = scaled_channels(full, width, _LEAST)
        for index in range(count):
            stride = first_stride if index == 0 else 1
            layers.append((f"block{len(layers)}", _InvertedResidual(channels, wider, expansion, stride)))
            channels = wider
    last = scaled_channels(_HEAD, max(1.0, width), _LEAST)
    layers += [
        ("head", convolution_unit(channels, last, 1)),
        ("pool", nn.AdaptiveAvgPool2d(1)),
        ("flatten", nn.Flatten()),
        ("fc", nn.Linear(last, classes)),
    ]
    network = nn.Sequential(OrderedDict(layers))
    initialise_convolutional(network, generator)
    calibrate_batch_norms(network, torch.randn(4, 3, size, size, generator=generator))
    return network.eval()
