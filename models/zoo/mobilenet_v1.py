"""MobileNet-v1 (Howard et al. 2017, arXiv:1704.04861, table 1), with ReLU6 as in the authors' release."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from ..calibration import calibrate_batch_norms
from ..convolution_unit import convolution_unit, scaled_channels
from ..initialising import initialise_convolutional
from ..samples import random_images

__all__ = ["OUTPUTS", "SUMMARY", "build", "samples"]

SUMMARY = "MobileNet-v1: depthwise separable convolutions, 4.2 million weights at width 1.0"
OUTPUTS = ("logits",)

_STEM = 32
_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)
"""Output channels at width 1.0 and stride of each depthwise separable block."""


def samples(size: int = 224) -> dict[str, torch.Tensor]:
    """One RGB image of `size` x `size`, channels first, float32."""
    return {"x": random_images(size)}


def build(*, width: float = 1.0, size: int = 224, classes: int = 1000, seed: int = 0) -> nn.Module:
    """The network in evaluation mode: x [n, 3, size, size] float32 -> logits [n, classes] float32.

    Weights are drawn by He's rule from `seed`, the same on every machine; batch norms are calibrated on
    random images, so that activations keep their scale through all layers. `width` multiplies the channels
    of every layer.
    """
    generator = torch.Generator().manual_seed(seed)
    channels = scaled_channels(_STEM, width)
    layers: list[tuple[str, nn.Module]] = [("stem", convolution_unit(3, channels, 3, stride=2))]
    for index, (full, stride) in enumerate(_BLOCKS, 1):
        wider = scaled_channels(full, width)
        depthwise = convolution_unit(channels, channels, 3, stride=stride, groups=channels)
        layers.append((f"block{index}_depthwise", depthwise))
        layers.append((f"block{index}_pointwise", convolution_unit(channels, wider, 1)))
        channels = wider
    head: list[tuple[str, nn.Module]] = [
        ("pool", nn.AdaptiveAvgPool2d(1)),
        ("flatten", nn.Flatten()),
        ("fc", nn.Linear(channels, classes)),
    ]
    network = nn.Sequential(OrderedDict([*layers, *head]))
    initialise_convolutional(network, generator)
    calibrate_batch_norms(network, torch.randn(4, 3, size, size, generator=generator))
    return network.eval()
