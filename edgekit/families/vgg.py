"""VGG: 3x3 convolutions in groups, a 2x2 maximum after each, and a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from edgekit.families.family import NO_BLOCKS, NO_HEADS, Family
from edgekit.families.image import DYNAMIC_IS_SLOW, initialise_he, picture_of
from edgekit.specs import TensorSpec

if TYPE_CHECKING:
    from torch import nn

Layer = int | Literal["M"]
Head = Literal["pool", "classic"]
# Configuration D, without the maximum after its last group.
_VGG16: tuple[Layer, ...] = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512)
_SMALL: tuple[Layer, ...] = (16, 32, "M", 64, 64, "M", 128, 128)
_PICO: tuple[Layer, ...] = (8, "M", 16, "M", 32)


def build_vgg(
    inputs: tuple[TensorSpec, ...],
    outputs: int,
    *,
    layers: Sequence[Layer],
    norm: bool,
    head: Head = "pool",
    hidden: int = 4096,
    dropout: float = 0.0,
) -> nn.Module:
    """Build a VGG; its parts are called `features` and `classifier`.

    Args:
        inputs: One picture (n, channels, height, width).
        outputs: Number of outputs.
        layers: Channels of each 3x3 convolution, "M" for a 2x2 maximum that halves the picture.
        norm: Batch normalisation after each convolution.
        head: "pool", the mean over all places and one linear layer, or "classic": two hidden linear layers of all
            places.
        hidden: Width of the classic head's hidden layers.
        dropout: Before each linear layer but a classic head's first.

    Returns:
        A module: float (n, channels, height, width) -> float (n, outputs).

    Raises:
        RecipeError: if the input is no picture, or too small to be halved so often.
    """
    from torch import nn

    halvings = list(layers).count("M")
    picture = picture_of(inputs, "vgg", halvings=halvings)
    features = _features(picture.channels, layers, norm)
    width = next(layer for layer in reversed(layers) if layer != "M")
    places = (picture.height >> halvings) * (picture.width >> halvings)
    last = _pooled(width, outputs, dropout) if head == "pool" else _classic(width * places, hidden, outputs, dropout)
    module = nn.Sequential()
    module.add_module("features", nn.Sequential(*features))
    module.add_module("classifier", nn.Sequential(*last))
    return initialise_he(module)


def _features(channels: int, layers: Sequence[Layer], norm: bool) -> list[nn.Module]:
    """(n, channels, h, w) -> (n, last of layers, h / 2^m, w / 2^m); convolutions have a bias, as published ones do."""
    from torch import nn

    features: list[nn.Module] = []
    for layer in layers:
        if layer == "M":
            features.append(nn.MaxPool2d(2))
            continue
        features.append(nn.Conv2d(channels, layer, 3, padding=1))
        features += [nn.BatchNorm2d(layer), nn.ReLU(inplace=True)] if norm else [nn.ReLU(inplace=True)]
        channels = layer
    return features


def _pooled(width: int, outputs: int, dropout: float) -> list[nn.Module]:
    """(n, width, h, w) -> (n, outputs)."""
    from torch import nn

    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(width, outputs)]


def _classic(features: int, hidden: int, outputs: int, dropout: float) -> list[nn.Module]:
    """(n, c, h, w) with features = c * h * w -> (n, outputs)."""
    from torch import nn

    first = [nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout)]
    second = [nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout)]
    return [*first, *second, nn.Linear(hidden, outputs)]


VGG = Family(
    name="vgg",
    summary="3x3 convolutions in groups, with and without batch normalisation",
    paper="Simonyan and Zisserman 2014, arXiv:1409.1556; batch normalisation: arXiv:1502.03167, initialisation: "
    "arXiv:1502.01852",
    tasks=("classification",),
    sizes={
        "pico": {"layers": _PICO, "norm": True},
        "small": {"layers": _SMALL, "norm": True, "dropout": 0.2},
        "base": {"layers": _VGG16, "norm": True, "dropout": 0.3},
        "pico-plain": {"layers": _PICO, "norm": False},
        "small-plain": {"layers": _SMALL, "norm": False, "dropout": 0.2},
        "craft": {"layers": _VGG16[:-1], "norm": True},
        "classic": {"layers": (*_VGG16, "M"), "norm": False, "head": "classic", "dropout": 0.5},
        "classic-norm": {"layers": (*_VGG16, "M"), "norm": True, "head": "classic", "dropout": 0.5},
    },
    build=build_vgg,
    refuses={**DYNAMIC_IS_SLOW, **NO_HEADS, **NO_BLOCKS},
)
