"""MobileNet-v1 (Howard et al. 2017, arXiv:1704.04861, table 1), with ReLU6 as in the authors' release."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from ..calibration import calibrate_batch_norms

__all__ = ["INPUTS", "OUTPUTS", "SUMMARY", "build", "input_shapes"]

SUMMARY = "MobileNet-v1: depthwise separable convolutions, 4.2 million weights at width 1.0"
INPUTS = ("x",)
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


def input_shapes(size: int = 224) -> dict[str, tuple[int, ...]]:
    """One RGB image of `size` x `size`, channels first, float32."""
    return {"x": (1, 3, size, size)}


def build(*, width: float = 1.0, size: int = 224, classes: int = 1000, seed: int = 0) -> nn.Module:
    """The network in evaluation mode: x [n, 3, size, size] float32 -> logits [n, classes] float32.

    Weights are drawn by He's rule from `seed`, the same on every machine; batch norms are calibrated on
    random images, so that activations keep their scale through all layers. `width` multiplies the channels
    of every layer.
    """
    generator = torch.Generator().manual_seed(seed)
    channels = _scaled(_STEM, width)
    layers = [("stem", _unit(3, channels, 3, stride=2))]
    for index, (full, stride) in enumerate(_BLOCKS, 1):
        wider = _scaled(full, width)
        layers.append(
            (f"block{index}_depthwise", _unit(channels, channels, 3, stride=stride, groups=channels))
        )
        layers.append((f"block{index}_pointwise", _unit(channels, wider, 1)))
        channels = wider
    head = [
        ("pool", nn.AdaptiveAvgPool2d(1)),
        ("flatten", nn.Flatten()),
        ("fc", nn.Linear(channels, classes)),
    ]
    network = nn.Sequential(OrderedDict([*layers, *head]))
    _initialise(network, generator)
    calibrate_batch_norms(network, torch.randn(4, 3, size, size, generator=generator))
    return network.eval()


def _scaled(channels: int, width: float) -> int:
    """Channels at `width`, a multiple of 8 as in the authors' code."""
    return max(8, int(channels * width + 4) // 8 * 8)


def _unit(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    padding = kernel // 2
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    parts = [("conv", convolution), ("bn", nn.BatchNorm2d(outputs)), ("act", nn.ReLU6())]
    return nn.Sequential(OrderedDict(parts))


def _initialise(network: nn.Module, generator: torch.Generator) -> None:
    """He et al. 2015 (arXiv:1502.01852): a deviation of sqrt(2 / fan_in). Scales and shifts of batch norms
    vary too."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            with torch.no_grad():
                module.weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            with torch.no_grad():
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.uniform_(-0.5, 1.0, generator=generator)
