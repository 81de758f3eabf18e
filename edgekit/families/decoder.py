"""The layers of decoders of text. Imports torch, so it is imported only by what builds a module."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.families.layers import HIDDEN, SelfAttention


class LearntPositions(nn.Module):
    """A vector a position, learnt: positions int64 (length,) -> (length, width).

    Args:
        count: The longest text.
        width: Of a token.
    """

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.count = count
        self.table = nn.Embedding(count, width)

    def forward(self, positions: Tensor) -> Tensor:
        """See the class."""
        found: Tensor = self.table(positions)
        return found


class SinusoidalPositions(nn.Module):
    """A vector a position, of sines and cosines: positions int64 (length,) -> (length, width).

    Args:
        count: The longest text; a limit of what was trained, not of the formula.
        width: Of a token; even.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
    """

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.count = count
        rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
        angles = torch.arange(count)[:, None] * rates[None, :]
        table = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
        self.register_buffer("table", table, persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        """See the class."""
        table = self.get_buffer("table")
        return table[positions]


def hidden_ahead(places: Tensor, before: int, dtype: torch.dtype) -> Tensor:
    """The mask of tokens that look back only.

    Args:
        places: int64 (before + length,), counted from 0.
        before: How many tokens came before those that look.
        dtype: Of the mask.

    Returns:
        (length, before + length): 0 where a token may look, `HIDDEN` elsewhere.
    """
    return HIDDEN * (places[None, :] > places[before:, None]).to(dtype)


class CausalAttention(SelfAttention):
    """Self-attention that looks back only, also at the keys and values of tokens that came before.

    Source: the cache: Shazeer 2019, arXiv:1911.02150, section 2.
    """

    def remember(
        self, x: Tensor, mask: Tensor, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attend.

        Args:
            x: (n, length, width).
            mask: Added to the scores: (length, past + length), 0 where a token may look.
            past: Keys and values of what came before, (n, heads, past, width / heads) each.

        Returns:
            (n, length, width), and the keys and values of all tokens, (n, heads, past + length, width / heads).
        """
        key, value = self.keys_and_values(x)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        return self.attend(x, key, value, mask, causal=past is None), key, value


class DecoderBlock(nn.Module):
    """Attention, then an MLP, both behind a normalisation and added to what came in.

    Args:
        width: Of a token.
        heads: Of the attention.
        dropout: After both.

    Source: Radford et al. 2019, section 2.3; figure 1 of Xiong et al. 2020, arXiv:2002.04745.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = CausalAttention(width, heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """As `CausalAttention.remember`."""
        mixed, key, value = self.attention.remember(self.attention_norm(x), mask, past)
        x = x + self.dropout(mixed)
        return x + self.dropout(self.mlp(self.mlp_norm(x))), key, value


class Decoder(nn.Module):
    """Ids to the logits of the next token: int64 (n, length) -> float (n, length, vocabulary).

    The table of tokens is also the last layer (Press and Wolf 2016, arXiv:1608.05859).

    Args:
        vocabulary: Number of tokens.
        width: Of a token.
        depth: Number of blocks.
        heads: Of each attention.
        positions: Position -> vector; knows the longest text as `count`.
        dropout: After the embedding, each attention and each MLP.
        scale: The vectors of tokens are multiplied by it before positions are added (Vaswani et al. 2017, section 3.4).
    """

    def __init__(
        self,
        vocabulary: int,
        width: int,
        depth: int,
        heads: int,
        positions: LearntPositions | SinusoidalPositions,
        dropout: float,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = positions
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(DecoderBlock(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.scale = scale
        _initialise(self, depth)

    def forward(self, ids: Tensor, *past: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Tell the next token.

        Args:
            ids: int64 (n, length).
            past: Keys and values of what came before, two a block, (n, heads, past, width / heads); none at all, where
                the text begins here and nothing is to be remembered.

        Returns:
            Logits (n, length, vocabulary); with `past` also the keys and values of all tokens, in its order.
        """
        before, length = (past[0].shape[2] if past else 0), ids.shape[1]
        places = torch.arange(before + length, device=ids.device)
        mask = hidden_ahead(places, before, self.tokens.weight.dtype)
        x = self.dropout(self.tokens(ids) * self.scale + self.positions(places[before:]))
        present: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x, key, value = block(x, mask, (past[2 * index], past[2 * index + 1]) if past else None)
            present += [key, value]
        logits = functional.linear(self.norm(x), self.tokens.weight)
        return (logits, *present) if past else logits


def _initialise(module: Decoder, depth: int) -> None:
    """N(0, 0.02); what is added to the sum of all layers less, by the root of their number (Radford et al. 2019)."""
    for name, parameter in module.named_parameters():
        if parameter.ndim < 2:
            continue
        added = name.endswith(("attention.out.weight", "mlp.2.weight"))
        nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * depth) if added else 0.02)
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
