"""The layers of BERT. Imports torch, so it is imported only by what builds a module."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.families.layers import HIDDEN, SelfAttention


class EncoderBlock(nn.Module):
    """Attention, then an MLP, each added to what came in and normalised after: (n, length, width) as is.

    Args:
        width: Of a token.
        heads: Of the attention.
        dropout: After both.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads)
        self.after_attention = nn.LayerNorm(width, eps=1e-12)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.after_mlp = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """See the class; `hidden` is added to the scores: (n, 1, 1, length), 0 where there is a token."""
        x = self.after_attention(x + self.dropout(self.attention(x, hidden)))
        return self.after_mlp(x + self.dropout(self.mlp(x)))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Tokens, places and segments to a vector a token.

    Args:
        vocabulary: Number of tokens.
        width: Of a token.
        depth: Number of blocks.
        heads: Of each attention.
        positions: The longest text.
        dropout: After the embedding, each attention and each MLP.
    """

    def __init__(self, vocabulary: int, width: int, depth: int, heads: int, positions: int, dropout: float) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(positions, width)
        self.segments = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(EncoderBlock(width, heads, dropout) for _ in range(depth))

    def forward(self, ids: Tensor, mask: Tensor, segments: Tensor | None = None) -> Tensor:
        """int64 (n, length) each -> (n, length, width); the mask is 1 at tokens, segments are 0 or 1."""
        places = self.positions(torch.arange(ids.shape[1], device=ids.device))
        parts = self.segments(torch.zeros_like(ids) if segments is None else segments)
        x = self.dropout(self.norm(self.tokens(ids) + places + parts))
        hidden = (1 - mask[:, None, None, :].to(x.dtype)) * HIDDEN
        for block in self.blocks:
            x = block(x, hidden)
        return x  # type: ignore[no-any-return]


class Pooler(nn.Module):
    """The first token's vector through one layer: (n, length, width) -> (n, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return torch.tanh(self.layer(x[:, 0]))


class Pretraining(nn.Module):
    """Which token stood at each place, and whether the second text follows the first.

    Args:
        encoder: Its table of tokens is also the last layer: the two are tied.
        width: Of a token.
    """

    def __init__(self, encoder: Encoder, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooler = Pooler(width)
        self.follows = nn.Linear(width, 2)
        self.change = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width, eps=1e-12))
        self.bias = nn.Parameter(torch.zeros(encoder.tokens.num_embeddings))

    def forward(self, ids: Tensor, mask: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
        """int64 (n, length) each -> (n, length, vocabulary), (n, 2)."""
        x = self.encoder(ids, mask, segments)
        tokens = functional.linear(self.change(x), self.encoder.tokens.weight, self.bias)
        return tokens, self.follows(self.pooler(x))


class Classifier(nn.Module):
    """One class a text: int64 (n, length) twice -> (n, outputs)."""

    def __init__(self, encoder: Encoder, width: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooler = Pooler(width)
        self.classes = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, outputs))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """See the class."""
        return self.classes(self.pooler(self.encoder(ids, mask)))  # type: ignore[no-any-return]


class TokenClassifier(nn.Module):
    """One class a token: int64 (n, length) twice -> (n, length, outputs)."""

    def __init__(self, encoder: Encoder, width: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.classes = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, outputs))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """See the class."""
        return self.classes(self.encoder(ids, mask))  # type: ignore[no-any-return]


class Embedder(nn.Module):
    """The mean over a text's tokens, of length 1: int64 (n, length) twice -> (n, width).

    Source: Reimers and Gurevych 2019, arXiv:1908.10084, section 3.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """See the class."""
        kept = mask[..., None].to(torch.float32)
        mean = (self.encoder(ids, mask) * kept).sum(1) / kept.sum(1)
        return functional.normalize(mean)
