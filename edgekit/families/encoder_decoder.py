"""The layers of the encoder-decoder transformer. Imports torch, so it is imported only by what builds a module."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.errors import ModelError
from edgekit.families.decoder import CausalAttention, SinusoidalPositions, hidden_ahead
from edgekit.families.layers import HIDDEN, SelfAttention

Pair = tuple[Tensor, Tensor]


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

    def forward(
        self, x: Tensor, ahead: Tensor, read: Pair, hidden: Tensor, past: Pair | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Go on.

        Args:
            x: What was written, (n, target length, width).
            ahead: Added to its scores: (target length, past + target length).
            read: Keys and values of what was read, (n, heads, length, width / heads) each.
            hidden: Added to the scores of that: (n, 1, 1, length).
            past: Keys and values of what was written before, (n, heads, past, width / heads) each.

        Returns:
            (n, target length, width), and the keys and values of all that was written.
        """
        mixed, key, value = self.attention.remember(self.attention_norm(x), ahead, past)
        x = x + self.dropout(mixed)
        x = x + self.dropout(self.memory_attention.attend(self.memory_norm(x), *read, hidden))
        return x + self.dropout(self.mlp(self.mlp_norm(x))), key, value


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
        return self.write(target, mask, self.looked_at(memory))[0]

    def looked_at(self, memory: Tensor) -> list[Tensor]:
        """Keys and values of what `encode` gave, two a block of the decoder: (n, heads, length, width / heads)."""
        blocks = (block.get_submodule("memory_attention") for block in self.decoder)
        attentions = (a for a in blocks if isinstance(a, SelfAttention))
        return [each for attention in attentions for each in attention.keys_and_values(memory)]

    def write(self, target: Tensor, mask: Tensor, read: Sequence[Tensor], past: Sequence[Tensor] = ()) -> list[Tensor]:
        """Write on.

        Args:
            target: int64 (n, target length): what comes next, all of it where there is no past.
            mask: Of what was read.
            read: What `looked_at` gave.
            past: Keys and values of what was written before, two a block, (n, heads, past, width / heads).

        Returns:
            Logits (n, target length, target vocabulary), then the keys and values of all that was written.

        Raises:
            ModelError: if there are keys and values of another number of blocks.
        """
        if len(read) != 2 * len(self.decoder) or len(past) not in (0, len(read)):
            raise ModelError(
                f"the decoder has {len(self.decoder)} blocks, and keys and values of {len(read) // 2} are given; a "
                "model whose blocks were pruned is exported with --part encoder and --part decoder"
            )
        table = self.source if self.target is None else self.target
        before = past[0].shape[2] if past else 0
        places = torch.arange(before + target.shape[1], device=target.device)
        x = self._embedded(table, target, places[before:])
        ahead, hidden = hidden_ahead(places, before, x.dtype), self._hidden(mask)
        present: list[Tensor] = []
        for index, block in enumerate(self.decoder):
            own = slice(2 * index, 2 * index + 2)
            x, *kept = block(x, ahead, tuple(read[own]), hidden, tuple(past[own]) or None)
            present += kept
        return [functional.linear(self.decoder_norm(x), table.weight), *present]

    def _embedded(self, table: nn.Embedding, ids: Tensor, places: Tensor | None = None) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device) if places is None else places
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


class CachedEncoderPart(nn.Module):
    """What reads, once a text: int64 (n, length) twice -> what `EncoderDecoder.looked_at` gives."""

    def __init__(self, network: EncoderDecoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, source: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        return tuple(self.network.looked_at(self.network.encode(source, mask)))


class CachedDecoderPart(nn.Module):
    """What writes on: see `EncoderDecoder.write`; half of the tensors are of what was read, half of what was written.

    The first time, what was written has no tokens.
    """

    def __init__(self, network: EncoderDecoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, target: Tensor, mask: Tensor, *remembered: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        half = len(remembered) // 2
        return tuple(self.network.write(target, mask, remembered[:half], remembered[half:]))


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
