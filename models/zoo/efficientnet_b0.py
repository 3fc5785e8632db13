"""EfficientNet-B0 (Tan and Le 2019, arXiv:1905.11946, table 1): squeeze-and-excitation and SiLU."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from ..calibration import calibrate_batch_norms
from ..convolution_unit import convolution_unit, scaled_channels
from ..initialising import initialise_convolutional
from ..samples import random_images

__all__ = ["OUTPUTS", "SUMMARY", "build", "samples"]

SUMMARY = "EfficientNet-B0: squeeze-and-excitation, SiLU, 5.3 million weights at width 1.0"
OUTPUTS = ("logits",)

_STEM, _HEAD = 32, 1280
_STAGES = (
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)
"""Expansion, output channels at width 1.0, blocks, window, stride of the first block."""
_SQUEEZE = 4  # the squeezed vector has a quarter of the block's input channels


class _SqueezeExcitation(nn.Module):
    """Hu et al. 2018 (arXiv:1709.01507): every channel scaled by a gate computed from all channels' means."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = nn.SiLU()
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(self.expand(self.act(self.reduce(self.pool(x)))))
        return x * gate


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = (
            convolution_unit(inputs, hidden, 1, activation=nn.SiLU) if expansion > 1 else nn.Identity()
        )
        self.depthwise = convolution_unit(
            hidden, hidden, kernel, stride=stride, groups=hidden, activation=nn.SiLU
        )
        self.excite = _SqueezeExcitation(hidden, max(1, inputs // _SQUEEZE))
        self.project = convolution_unit(hidden, outputs, 1, activation=None)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.project(self.excite(self.depthwise(self.expand(x))))
        return x + y if self.residual else y


def samples(size: int = 224) -> dict[str, torch.Tensor]:
    """One RGB image of `size` x `size`, channels first, float32."""
    return {"x": random_images(size)}


def build(*, width: float = 1.0, size: int = 224, classes: int = 1000, seed: int = 0) -> nn.Module:
    """The network in evaluation mode: x [n, 3, size, size] float32 -> logits [n, classes] float32.

    Weights are drawn by He's rule from `seed`, batch norms calibrated on random images. `width` multiplies
    the channels of every layer.
    """
    generator = torch.Generator().manual_seed(seed)
    channels = scaled_channels(_STEM, width, 0.9)
    stem = convolution_unit(3, channels, 3, stride=2, activation=nn.SiLU)
    layers: list[tuple[str, nn.Module]] = [("stem", stem)]
    for expansion, full, count, kernel, first_stride in _STAGES:
        wider = scaled_channels(full, width, 0.9)
        for index in range(count):
            stride = first_stride if index == 0 else 1
            layers.append((f"block{len(layers)}", _Block(channels, wider, expansion, kernel, stride)))
            channels = wider
    last = scaled_channels(_HEAD, width, 0.9)
    layers += [
        ("head", convolution_unit(channels, last, 1, activation=nn.SiLU)),
        ("pool", nn.AdaptiveAvgPool2d(1)),
        ("flatten", nn.Flatten()),
        ("fc", nn.Linear(last, classes)),
    ]
    network = nn.Sequential(OrderedDict(layers))
    initialise_convolutional(network, generator)
    calibrate_batch_norms(network, torch.randn(4, 3, size, size, generator=generator))
    return network.eval()
