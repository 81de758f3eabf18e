"""What families that draw share: the numbers that a picture is drawn from, and how far it can be halved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekit.errors import RecipeError
from edgekit.specs import TensorSpec


def halvings(height: int, width: int, least: int = 4) -> int:
    """How often a picture can be halved while it is even and stays at least so high and wide.

    >>> halvings(28, 28), halvings(64, 64), halvings(7, 7)
    (2, 4, 0)
    """
    count = 0
    while height % 2 == width % 2 == 0 and min(height, width) // 2 >= least:
        height, width, count = height // 2, width // 2, count + 1
    return count


def positive(size: Mapping[str, Any], *names: str) -> None:
    """Refuse sizes that are no positive whole numbers.

    Raises:
        RecipeError: for the first one.
    """
    for name in names:
        if type(size[name]) is not int or size[name] < 1:
            raise RecipeError(f"{name} must be a whole number of at least 1, got {size[name]!r}")


def latent_input(inputs: tuple[TensorSpec, ...], size: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    """What a generator or decoder takes instead of the data: z (batch, latent), standard normal."""
    positive(size, "latent")
    return (TensorSpec("z", "float32", ("batch", size["latent"])),)
