"""Self-attention of several heads and the two-layer network behind it (Vaswani et al. 2017,
arXiv:1706.03762)."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["FeedForward", "SelfAttention"]


class SelfAttention(nn.Module):
    """x [n, sequence, width] -> the same shape; three projections, softmax of scaled scores, a fourth.

    `mask` is added to the scores [n, heads, sequence, sequence], broadcast.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        query, key, value = (self._split(part(x)) for part in (self.query, self.key, self.value))
        scores = torch.matmul(query, key.transpose(-1, -2)) / query.shape[-1] ** 0.5
        if mask is not None:
            scores = scores + mask
        mixed = torch.matmul(torch.softmax(scores, dim=-1), value)
        y: torch.Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return y

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """[n, sequence, width] -> [n, heads, sequence, width / heads]."""
        n, sequence, width = x.shape
        return x.reshape(n, sequence, self.heads, width // self.heads).transpose(1, 2)


class FeedForward(nn.Module):
    """GELU between two projections, the first to `hidden` features."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.expand, self.act, self.project = nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.project(self.act(self.expand(x)))
        return y
