"""A BERT-like encoder of MiniLM-L6's shape (Wang et al. 2020, arXiv:2002.10957; Devlin et al. 2019,
arXiv:1810.04805): 6 layers of width 384, 12 heads."""

from __future__ import annotations

import torch
from torch import nn

from ..attention import FeedForward, SelfAttention
from ..initialising import initialise_transformer

__all__ = ["OUTPUTS", "SUMMARY", "build", "samples"]

SUMMARY = "MiniLM-L6: a BERT-like text encoder, sequences of 128, 22.6 million weights"
OUTPUTS = ("last_hidden_state",)

_VOCABULARY, _LONGEST = 30522, 512
_EPSILON = 1e-12


class _Embeddings(nn.Module):
    """Words, positions and token types, summed and normalised."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.word = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(_LONGEST, width)
        self.token_type = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, _EPSILON)

    def forward(self, input_ids: torch.Tensor, token_type_ids: torch.Tensor) -> torch.Tensor:
        places = torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0)
        total = self.word(input_ids) + self.token_type(token_type_ids) + self.position(places)
        y: torch.Tensor = self.norm(total)
        return y


class _Block(nn.Module):
    """A residual around each half, layer norm behind it."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention, self.norm1 = SelfAttention(width, heads), nn.LayerNorm(width, _EPSILON)
        self.mlp, self.norm2 = FeedForward(width, hidden), nn.LayerNorm(width, _EPSILON)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.norm1(self.attention(x, mask) + x)
        y: torch.Tensor = self.norm2(self.mlp(x) + x)
        return y


class _Encoder(nn.Module):
    def __init__(self, vocabulary: int, width: int, depth: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.embeddings = _Embeddings(vocabulary, width)
        self.blocks = nn.ModuleList(_Block(width, heads, hidden) for _ in range(depth))

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        kept = attention_mask[:, None, None, :].to(torch.float32)
        mask = (1.0 - kept) * torch.finfo(torch.float32).min
        x: torch.Tensor = self.embeddings(input_ids, token_type_ids)
        for block in self.blocks:
            x = block(x, mask)
        return x


def samples(sequence: int = 128, vocabulary: int = _VOCABULARY) -> dict[str, torch.Tensor]:
    """One sequence of token numbers, its last eighth padding, all [1, sequence] int64."""
    generator = torch.Generator().manual_seed(1)
    words = torch.randint(0, vocabulary, (1, sequence), generator=generator)
    places = torch.arange(sequence).unsqueeze(0)
    mask = (places < sequence - sequence // 8).to(torch.int64)
    return {
        "input_ids": words,
        "attention_mask": mask,
        "token_type_ids": (places >= sequence // 2).to(torch.int64),
    }


def build(
    *,
    width: int = 384,
    depth: int = 6,
    heads: int = 12,
    hidden: int = 1536,
    vocabulary: int = _VOCABULARY,
    seed: int = 0,
) -> nn.Module:
    """The network in evaluation mode: input_ids, attention_mask and token_type_ids [n, sequence] int64 ->
    last_hidden_state [n, sequence, width] float32.

    Weights are drawn from `seed` so that activations keep their scale and scores of attention spread.
    """
    network = _Encoder(vocabulary, width, depth, heads, hidden)
    initialise_transformer(network, torch.Generator().manual_seed(seed))
    return network.eval()
