"""Random weights that keep the scale of activations, the same on every machine."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["initialise_convolutional", "initialise_transformer"]


def initialise_convolutional(network: nn.Module, generator: torch.Generator) -> None:
    """He et al. 2015 (arXiv:1502.01852): a deviation of sqrt(2 / fan_in). Scales and shifts of batch norms
    vary too."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            _draw_weights(module, 2.0, generator)
        elif isinstance(module, nn.BatchNorm2d):
            with torch.no_grad():
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.uniform_(-0.5, 1.0, generator=generator)


def initialise_transformer(network: nn.Module, generator: torch.Generator) -> None:
    """Deviations of sqrt(1 / fan_in) for products and 1 for embeddings, so that the scores of attention
    spread; every other parameter of one axis is a scale near 1 or a shift near 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            _draw_weights(module, 1.0, generator)
            if module.bias is not None:
                with torch.no_grad():
                    module.bias.normal_(0, 0.1, generator=generator)
        elif isinstance(module, nn.Embedding):
            with torch.no_grad():
                module.weight.normal_(0, 1, generator=generator)
        elif isinstance(module, nn.LayerNorm):
            with torch.no_grad():
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.uniform_(-0.5, 0.5, generator=generator)


def _draw_weights(module: nn.Conv2d | nn.Linear, gain: float, generator: torch.Generator) -> None:
    fan_in = module.weight[0].numel()
    with torch.no_grad():
        module.weight.normal_(0, (gain / fan_in) ** 0.5, generator=generator)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
