"""The transformer's stack of self-attention as a language model: causal mask, sinusoidal positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.families.family import Family, Inputs, Part
from edgekit.families.gpt import itself, with_past, with_present
from edgekit.families.text import vocabulary_of

if TYPE_CHECKING:
    from torch import nn


def build_transformer(
    inputs: Inputs,
    outputs: int,
    *,
    width: int,
    depth: int,
    heads: int,
    positions: int,
    dropout: float = 0.0,
) -> nn.Module:
    """Build a transformer language model.

    Unlike the paper's, its layers normalise what goes in rather than what comes out (Xiong et al. 2020,
    arXiv:2002.04745): that trains without a long warm-up.

    Args:
        inputs: One input of ids (n, length), which knows its vocabulary.
        outputs: Not looked at: there is a logit for each token.
        width: Of a token; even.
        depth: Number of blocks.
        heads: Of each attention.
        positions: The longest text, in tokens.
        dropout: After the embedding, each attention and each MLP.

    Returns:
        A module: int64 (n, length) -> float (n, length, vocabulary).

    Raises:
        RecipeError: if the input is no ids, or of an unknown vocabulary.
    """
    from edgekit.families.decoder import Decoder, SinusoidalPositions

    places = SinusoidalPositions(positions, width)
    return Decoder(vocabulary_of(inputs, "transformer"), width, depth, heads, places, dropout, scale=width**0.5)


TRANSFORMER = Family(
    name="transformer",
    summary="self-attention with a causal mask and sinusoidal positions",
    paper="Vaswani et al. 2017, arXiv:1706.03762",
    tasks=("language-modelling",),
    sizes={
        "pico": {"width": 32, "depth": 2, "heads": 2, "positions": 128},
        "small": {"width": 256, "depth": 6, "heads": 4, "positions": 256},
        "base": {"width": 512, "depth": 6, "heads": 8, "positions": 1024, "dropout": 0.1},
    },
    build=build_transformer,
    parts={"cache": Part(itself, with_past, with_present)},
)
