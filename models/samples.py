"""Inputs that a network is traced and checked with, the same on every machine."""

from __future__ import annotations

import torch

__all__ = ["random_images"]


def random_images(size: int, count: int = 1, seed: int = 1) -> torch.Tensor:
    """Normally distributed pixels: [count, 3, size, size] float32."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
