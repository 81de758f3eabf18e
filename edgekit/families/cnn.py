"""Plain convolutional network: stages of two 3x3 convolutions, halved between stages, global average at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekit.families.family import NO_BLOCKS, NO_HEADS, Family
from edgekit.families.image import DYNAMIC_IS_SLOW, picture_of
from edgekit.specs import TensorSpec

if TYPE_CHECKING:
    from torch import nn


def conv_block(in_channels: int, out_channels: int, stride: int = 1) -> list[nn.Module]:
    """3x3 convolution, batch normalisation, ReLU: (n, in, h, w) -> (n, out, h / stride, w / stride)."""
    from torch import nn

    return [
        nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]


def depthwise_block(in_channels: int, out_channels: int, stride: int = 1) -> list[nn.Module]:
    """A 3x3 convolution of each channel by itself, then 1x1 across channels; shapes as of `conv_block`.

    Source: Howard et al. 2017, arXiv:1704.04861, section 3.1.
    """
    from torch import nn

    return [
        nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False),
        nn.BatchNorm2d(in_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]


def build_cnn(
    inputs: tuple[TensorSpec, ...], outputs: int, *, channels: Sequence[int], dropout: float, depthwise: bool = False
) -> nn.Module:
    """Build a CNN.

    Args:
        inputs: One picture (n, channels, height, width).
        outputs: Number of outputs.
        channels: Channels of each stage; every stage but the first halves the picture.
        dropout: Before the last layer.
        depthwise: Separable convolutions, as in MobileNet, after the first, which is a full one.

    Returns:
        A module: float (n, channels, height, width) -> float (n, outputs).

    Raises:
        RecipeError: if the input is no picture, or too small to be halved so often.
    """
    from torch import nn

    width = picture_of(inputs, "cnn", halvings=len(channels) - 1).channels
    block = depthwise_block if depthwise else conv_block
    layers: list[nn.Module] = []
    for stage, out in enumerate(channels):
        layers += conv_block(width, out) if stage == 0 else block(width, out, stride=2)
        layers += block(out, out)
        width = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(width, outputs))


CNN = Family(
    name="cnn",
    summary="plain convolutional network, of full or depthwise-separable convolutions",
    paper="LeCun et al. 1998, Proc. IEEE 86; 3x3 stages: arXiv:1409.1556, global average: arXiv:1312.4400, depthwise: "
    "arXiv:1704.04861",
    tasks=("classification",),
    sizes={
        "pico": {"channels": (8, 16), "dropout": 0.0},
        "small": {"channels": (16, 48, 96), "dropout": 0.1},
        "base": {"channels": (64, 128, 256), "dropout": 0.2},
        "pico-depthwise": {"channels": (8, 16), "dropout": 0.0, "depthwise": True},
        "small-depthwise": {"channels": (16, 64, 128), "dropout": 0.1, "depthwise": True},
        "base-depthwise": {"channels": (64, 128, 256), "dropout": 0.2, "depthwise": True},
    },
    build=build_cnn,
    refuses={**DYNAMIC_IS_SLOW, **NO_HEADS, **NO_BLOCKS},
)
