"""ResNet-50 (He et al. 2016, arXiv:1512.03385, table 1), the stride in the 3x3 convolution as in v1.5."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from ..calibration import calibrate_batch_norms
from ..convolution_unit import convolution_unit, scaled_channels
from ..initialising import initialise_convolutional
from ..samples import random_images

__all__ = ["OUTPUTS", "SUMMARY", "build", "samples"]

SUMMARY = "ResNet-50: bottlenecks with 3x3 convolutions, 25.6 million weights at width 1.0"
OUTPUTS = ("logits",)

_STEM = 64
_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""Inner channels at width 1.0, blocks, stride of the first block."""
_EXPANSION = 4


class _Bottleneck(nn.Module):
    def __init__(self, inputs: int, inner: int, stride: int) -> None:
        super().__init__()
        outputs = inner * _EXPANSION
        self.reduce = convolution_unit(inputs, inner, 1, activation=nn.ReLU)
        self.spatial = convolution_unit(inner, inner, 3, stride=stride, activation=nn.ReLU)
        self.expand = convolution_unit(inner, outputs, 1, activation=None)
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity() if same else convolution_unit(inputs, outputs, 1, stride=stride, activation=None)
        )
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.act(self.expand(self.spatial(self.reduce(x))) + self.shortcut(x))
        return y


def samples(size: int = 224) -> dict[str, torch.Tensor]:
    """One RGB image of `size` x `size`, channels first, float32."""
    return {"x": random_images(size)}


def build(*, width: float = 1.0, size: int = 224, classes: int = 1000, seed: int = 0) -> nn.Module:
    """The network in evaluation mode: x [n, 3, size, size] float32 -> logits [n, classes] float32.

    Weights are drawn by He's rule from `seed`, batch norms calibrated on random images. `width` multiplies
    the channels of every layer.
    """
    generator = torch.Generator().manual_seed(seed)
    channels = scaled_channels(_STEM, width)
    layers: list[tuple[str, nn.Module]] = [
        ("stem", convolution_unit(3, channels, 7, stride=2, activation=nn.ReLU)),
        ("stem_pool", nn.MaxPool2d(3, stride=2, padding=1)),
    ]
    for stage, (full, count, first_stride) in enumerate(_STAGES, 1):
        inner = scaled_channels(full, width)
        for index in range(count):
            stride = first_stride if index == 0 else 1
            layers.append((f"stage{stage}_block{index + 1}", _Bottleneck(channels, inner, stride)))
            channels = inner * _EXPANSION
    layers += [
        ("pool", nn.AdaptiveAvgPool2d(1)),
        ("flatten", nn.Flatten()),
        ("fc", nn.Linear(channels, classes)),
    ]
    network = nn.Sequential(OrderedDict(layers))
    initialise_convolutional(network, generator)
    calibrate_batch_norms(network, torch.randn(4, 3, size, size, generator=generator))
    return network.eval()
