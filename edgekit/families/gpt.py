"""GPT: a decoder of causal self-attention that tells the next token; pre-norm, learnt positions, tied embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.families.family import Family, Inputs
from edgekit.families.text import CACHE, DECODER_SIZES, vocabulary_of

if TYPE_CHECKING:
    from torch import nn


def build_gpt(
    inputs: Inputs,
    outputs: int,
    *,
    width: int,
    depth: int,
    heads: int,
    positions: int,
    dropout: float = 0.0,
) -> nn.Module:
    """Build a GPT.

    Args:
        inputs: One input of ids (n, length), which knows its vocabulary.
        outputs: Not looked at: there is a logit for each token.
        width: Of a token.
        depth: Number of blocks.
        heads: Of each attention.
        positions: The longest text, in tokens.
        dropout: After the embedding, each attention and each MLP.

    Returns:
        A module: int64 (n, length) -> float (n, length, vocabulary).

    Raises:
        RecipeError: if the input is no ids, or of an unknown vocabulary.
    """
    from edgekit.families.decoder import Decoder, LearntPositions

    vocabulary = vocabulary_of(inputs, "gpt")
    return Decoder(vocabulary, width, depth, heads, LearntPositions(positions, width), dropout)


GPT = Family(
    name="gpt",
    summary="decoder of causal self-attention, learnt positions, tied embeddings",
    paper="Radford et al. 2018 and 2019, Language Models are Unsupervised Multitask Learners",
    tasks=("language-modelling",),
    sizes={
        **DECODER_SIZES,
        "base": {"width": 768, "depth": 12, "heads": 12, "positions": 1024, "dropout": 0.1},
    },
    build=build_gpt,
    parts={"cache": CACHE},
)
