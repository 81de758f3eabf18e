"""GPT: a decoder of causal self-attention that tells the next token; pre-norm, learnt positions, tied embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgekit.families.family import Family, Inputs, Part
from edgekit.families.text import vocabulary_of
from edgekit.specs import TensorSpec

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


def with_past(inputs: Inputs, size: Mapping[str, Any]) -> Inputs:
    """The ids, and the keys and values of what came before; Hugging Face's names."""
    shape = ("batch", size["heads"], "past", size["width"] // size["heads"])
    return (*inputs, *(TensorSpec(f"past_key_values.{name}", "float32", shape) for name in _cached(size)))


def with_present(size: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the logits, and of the keys and values of all tokens so far."""
    return ("logits", *(f"present.{name}" for name in _cached(size)))


def _cached(size: Mapping[str, Any]) -> list[str]:
    return [f"{block}.{what}" for block in range(size["depth"]) for what in ("key", "value")]


def itself(module: nn.Module) -> nn.Module:
    """The module remembers where it is given what to remember."""
    return module


GPT = Family(
    name="gpt",
    summary="decoder of causal self-attention, learnt positions, tied embeddings",
    paper="Radford et al. 2018 and 2019, Language Models are Unsupervised Multitask Learners",
    tasks=("language-modelling",),
    sizes={
        "pico": {"width": 32, "depth": 2, "heads": 2, "positions": 128},
        "small": {"width": 256, "depth": 6, "heads": 4, "positions": 256},
        "base": {"width": 768, "depth": 12, "heads": 12, "positions": 1024, "dropout": 0.1},
    },
    build=build_gpt,
    parts={"cache": Part(itself, with_past, with_present)},
)
