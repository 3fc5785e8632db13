"""ViT-Tiny with 16x16 patches (Dosovitskiy et al. 2021, arXiv:2010.11929; Touvron et al. 2021,
arXiv:2012.12877, table 1): 12 layers of width 192, 3 heads."""

from __future__ import annotations

import torch
from torch import nn

from ..attention import FeedForward, SelfAttention
from ..initialising import initialise_transformer
from ..samples import random_images

__all__ = ["OUTPUTS", "SUMMARY", "build", "samples"]

SUMMARY = "ViT-Tiny: image patches through a transformer, 5.7 million weights"
OUTPUTS = ("logits",)

_EPSILON = 1e-6


class _Block(nn.Module):
    """Layer norm before each half, a residual around it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width, _EPSILON), SelfAttention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width, _EPSILON), FeedForward(width, 4 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        y: torch.Tensor = x + self.mlp(self.norm2(x))
        return y


class _VisionTransformer(nn.Module):
    def __init__(self, size: int, patch: int, width: int, depth: int, heads: int, classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.zeros(1, (size // patch) ** 2 + 1, width))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, _EPSILON)
        self.fc = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(patches.shape[0], -1, -1), patches], dim=1) + self.position
        for block in self.blocks:
            x = block(x)
        logits: torch.Tensor = self.fc(self.norm(x)[:, 0])
        return logits


def samples(size: int = 224) -> dict[str, torch.Tensor]:
    """One RGB image of `size` x `size`, channels first, float32."""
    return {"x": random_images(size)}


def build(
    *, width: int = 192, depth: int = 12, heads: int = 3, size: int = 224, classes: int = 1000, seed: int = 0
) -> nn.Module:
    """The network in evaluation mode: x [n, 3, size, size] float32 -> logits [n, classes] float32.

    `size` is a multiple of 16. Weights are drawn from `seed` so that activations keep their scale.
    """
    generator = torch.Generator().manual_seed(seed)
    network = _VisionTransformer(size, 16, width, depth, heads, classes)
    initialise_transformer(network, generator)
    with torch.no_grad():
        network.token.normal_(0, 1, generator=generator)
        network.position.normal_(0, 0.5, generator=generator)
    return network.eval()
