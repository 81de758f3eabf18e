"""What families of text share: reading the vocabulary from the input."""

from __future__ import annotations

from edgekit.errors import RecipeError
from edgekit.families.family import Inputs


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
