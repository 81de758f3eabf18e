"""What families of pictures share: reading the picture's size, and He's initialisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from edgekit.errors import RecipeError
from edgekit.specs import TensorSpec

if TYPE_CHECKING:
    from torch import nn

DYNAMIC_IS_SLOW = {
    "quantize: dynamic": "ONNX Runtime runs dynamically quantised convolutions 3 to 8 times slower than float; "
    "use `quantize: static`",
}


class Picture(NamedTuple):
    """The size of a picture, in pixels."""

    channels: int
    height: int
    width: int


def picture_of(inputs: tuple[TensorSpec, ...], family: str, *, halvings: int = 0) -> Picture:
    """The size of the one picture that a family takes.

    Args:
        inputs: Of the model: one input (batch, channels, height, width).
        family: Its name, for the message.
        halvings: How often the network halves the picture; something must be left of it.

    Raises:
        RecipeError: if the input is no picture, or one that is too small.
    """
    if len(inputs) != 1 or inputs[0].rank != 4 or not all(isinstance(d, int) for d in inputs[0].shape[1:]):
        raise RecipeError(
            f"family {family!r} takes one picture (batch, channels, height, width), got {', '.join(map(str, inputs))}; "
            "choose another family (`edgekit list families`) or other data"
        )
    picture = Picture(*(int(d) for d in inputs[0].shape[1:]))
    least = 2**halvings
    if min(picture.height, picture.width) < least:
        raise RecipeError(
            f"family {family!r} at this size halves the picture {halvings} times and needs at least {least}x{least} "
            f"pixels, got {picture.height}x{picture.width}; choose a smaller size of the family or larger pictures"
        )
    return picture


def initialise_he(module: nn.Module) -> nn.Module:
    """Weights of convolutions from N(0, 2 / (k * k * out)), of the last layer from N(0, 0.01); biases 0.

    Source: He et al. 2015, arXiv:1502.01852, section 2.2 (the form that keeps the variance of gradients).
    """
    from torch import nn

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return module
