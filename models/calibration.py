"""Statistics of batch norms, measured layer by layer on sample inputs."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["calibrate_batch_norms"]


def calibrate_batch_norms(network: nn.Module, samples: torch.Tensor) -> None:
    """Set running means and variances of `network` to those of `samples` [n, ...], in place.

    One pass in training mode does it for all layers: each normalises by the statistics of this very batch.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    was_training = network.training
    network.train()
    try:
        with torch.no_grad():
            network(samples)
    finally:
        network.train(was_training)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
