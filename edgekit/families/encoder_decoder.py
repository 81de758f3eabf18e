"""The layers of the encoder-decoder transformer. Imports torch, so it is imported only by what builds a module."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.families.decoder import CausalAttention, SinusoidalPositions, hidden_ahead
from edgekit.families.layers import HIDDEN, SelfAttention


class EncoderBlock(nn.Module):
    """Attention to everything but padding, then an MLP, both behind a normalisation and added to what came in.

    Args:
        width: Of a token.
        heads: Of the attention.
        dropout: After both.

    Source: figure 1 of Xiong et al. 2020, arXiv:2002.04745.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """(n, length, width) as is; `hidden` is added to the scores: (n, 1, 1, length), 0 where there is a token."""
        x = x + self.dropout(self.attention(self.attention_norm(x), hidden))
        out: Tensor = x + self.dropout(self.mlp(self.mlp_norm(x)))
        return out


class MemoryBlock(nn.Module):
    """Attention to what was written, attention to what was read, then an MLP; each behind a normalisation.

    Args:
        width: Of a token.
        heads: Of each attention.
        dropout: After each.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = CausalAttention(width, heads)
        self.memory_norm = nn.LayerNorm(width)
        self.memory_attention = SelfAttention(width, heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, ahead: Tensor, memory: Tensor, hidden: Tensor) -> Tensor:
        """Go on.

        Args:
            x: What was written, (n, target length, width).
            ahead: Added to its scores: (target length, target length).
            memory: What was read, (n, length, width).
            hidden: Added to the scores of that: (n, 1, 1, length).

        Returns:
            (n, target length, width).
        """
        x = x + self.dropout(self.attention.remember(self.attention_norm(x), ahead)[0])
        read = self.memory_attention.keys_and_values(memory)
        x = x + self.dropout(self.memory_attention.attend(self.memory_norm(x), *read, hidden))
        out: Tensor = x + self.dropout(self.mlp(self.mlp_norm(x)))
        return out


class EncoderDecoder(nn.Module):
    """Ids of a text to the logits of another.

    The table of the tokens that are written is also the last layer.

    Args:
        vocabulary: Number of tokens that are read.
        target_vocabulary: Number of tokens that are written.
        width: Of a token; even.
        depth: Blocks of the encoder, and blocks of the decoder.
        heads: Of each attention.
        positions: The longest text on either side.
        dropout: After the embeddings, each attention and each MLP.
        tied: Whether both sides have one table, too; the vocabularies must be one then.

    Source: Vaswani et al. 2017, arXiv:1706.03762, sections 3.1 and 3.4; the place of the normalisations: Xiong et al.
    2020, arXiv:2002.04745.
    """

    def __init__(
        self,
        vocabulary: int,
        target_vocabulary: int,
        width: int,
        depth: int,
        heads: int,
        positions: int,
        dropout: float,
        tied: bool,
    ) -> None:
        super().__init__()
        self.source = nn.Embedding(vocabulary, width)
        self.target = None if tied else nn.Embedding(target_vocabulary, width)
        self.positions = SinusoidalPositions(positions, width)
        self.dropout = nn.Dropout(dropout)
        self.encoder = nn.ModuleList(EncoderBlock(width, heads, dropout) for _ in range(depth))
        self.encoder_norm = nn.LayerNorm(width)
        self.decoder = nn.ModuleList(MemoryBlock(width, heads, dropout) for _ in range(depth))
        self.decoder_norm = nn.LayerNorm(width)
        self.scale = width**0.5
        _initialise(self, width)

    def forward(self, source: Tensor, mask: Tensor, target: Tensor) -> Tensor:
        """Tell each next token of the target, given those before it.

        Args:
            source: int64 (n, length).
            mask: int64 (n, length): 1 at tokens, 0 at padding.
            target: int64 (n, target length); padding behind its end changes nothing before it.

        Returns:
            Logits (n, target length, target vocabulary).
        """
        return self.decode(target, self.encode(source, mask), mask)

    def encode(self, source: Tensor, mask: Tensor) -> Tensor:
        """Read: int64 (n, length) twice -> (n, length, width); anything at padding."""
        x = self._embedded(self.source, source)
        hidden = self._hidden(mask)
        for block in self.encoder:
            x = block(x, hidden)
        out: Tensor = self.encoder_norm(x)
        return out

    def decode(self, target: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Write: int64 (n, target length), what `encode` gave, and the mask that it had -> logits as `forward`."""
        table = self.source if self.target is None else self.target
        x = self._embedded(table, target)
        ahead = hidden_ahead(torch.arange(target.shape[1], device=target.device), 0, x.dtype)
        hidden = self._hidden(mask)
        for block in self.decoder:
            x = block(x, ahead, memory, hidden)
        return functional.linear(self.decoder_norm(x), table.weight)

    def _embedded(self, table: nn.Embedding, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)
        out: Tensor = self.dropout(table(ids) * self.scale + self.positions(places))
        return out

    def _hidden(self, mask: Tensor) -> Tensor:
        """What is added to the scores of what was read: (n, length) -> (n, 1, 1, length)."""
        return (1 - mask[:, None, None, :].to(self.source.weight.dtype)) * HIDDEN


class EncoderPart(nn.Module):
    """What reads: int64 (n, length) twice -> (n, length, width)."""

    def __init__(self, network: EncoderDecoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, source: Tensor, mask: Tensor) -> Tensor:
        """See `EncoderDecoder.encode`."""
        return self.network.encode(source, mask)


class DecoderPart(nn.Module):
    """What writes: int64 (n, target length), (n, length, width), int64 (n, length) -> logits."""

    def __init__(self, network: EncoderDecoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, target: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """See `EncoderDecoder.decode`."""
        return self.network.decode(target, memory, mask)


def _initialise(module: EncoderDecoder, width: int) -> None:
    """Matrices from Glorot's uniform distribution, tables from N(0, 1 / width), which `scale` brings to 1.

    Source: the paper's own code, github.com/tensorflow/tensor2tensor.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Embedding):
            nn.init.normal_(layer.weight, std=width**-0.5)
