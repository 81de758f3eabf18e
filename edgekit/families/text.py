"""What families of text share: reading the vocabulary from the input, sizes, the cache of a decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgekit.errors import RecipeError
from edgekit.families.family import Inputs, Part
from edgekit.specs import TensorSpec

if TYPE_CHECKING:
    from torch import nn

# The sizes that decoders of text have in common; a `base` is each one's own.
DECODER_SIZES: Mapping[str, Mapping[str, Any]] = {
    "pico": {"width": 32, "depth": 2, "heads": 2, "positions": 128},
    "small": {"width": 256, "depth": 6, "heads": 4, "positions": 256},
}


def vocabulary_of(inputs: Inputs, family: str) -> int:
    """How many tokens the ids of a model come from.

    Args:
        inputs: Of the model: ids (batch, length) first.
        family: Its name, for the message.

    Raises:
        RecipeError: if the first input is no ids, or their number is unknown.
    """
    first = inputs[0]
    if first.dtype != "int64" or first.rank != 2 or first.vocabulary is None:
        raise RecipeError(
            f"family {family!r} takes the ids of a text (batch, length), got {', '.join(map(str, inputs))}; "
            "choose another family (`edgekit list families`) or text, such as `data: fortunes`"
        )
    return first.vocabulary


def with_past(inputs: Inputs, size: Mapping[str, Any]) -> Inputs:
    """The ids, and the keys and values of what came before; Hugging Face's names. Pruned blocks differ in heads."""
    heads = size["heads"] if isinstance(size["heads"], list) else [size["heads"]] * size["depth"]
    width = size.get("head_width") or size["width"] // heads[0]
    shapes = (("batch", count, "past", width) for count in heads for _ in ("key", "value"))
    specs = (TensorSpec(f"past_key_values.{n}", "float32", s) for n, s in zip(cached(size), shapes, strict=True))
    return (*inputs, *specs)


def with_present(size: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the logits, and of the keys and values of all tokens so far."""
    return ("logits", *(f"present.{name}" for name in cached(size)))


def cached(size: Mapping[str, Any]) -> list[str]:
    """Names of a key and a value a block."""
    return [f"{block}.{what}" for block in range(size["depth"]) for what in ("key", "value")]


def itself(module: nn.Module) -> nn.Module:
    """The module remembers where it is given what to remember."""
    return module


CACHE = Part(itself, with_past, with_present)
