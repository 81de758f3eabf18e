"""Residual network: stages of blocks that add to what came in, halved between stages, global average at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from edgekit.families.family import NO_HEADS, Family
from edgekit.families.image import DYNAMIC_IS_SLOW, initialise_he, picture_of
from edgekit.specs import TensorSpec

if TYPE_CHECKING:
    from torch import nn

Block = Literal["basic", "bottleneck"]
LARGE_PIXELS = 64  # from here on the first layers quarter the picture
_WIDENING = {"basic": 1, "bottleneck": 4}


def build_resnet(
    inputs: tuple[TensorSpec, ...],
    outputs: int,
    *,
    block: Block,
    channels: Sequence[int],
    blocks: Sequence[int],
    dropout: float = 0.0,
) -> nn.Module:
    """Build a ResNet.

    Pictures below 64 pixels enter by a 3x3 convolution, larger ones by 7x7 with stride 2 and a 3x3 maximum with
    stride 2, as in the paper's networks for CIFAR-10 and ImageNet.

    Args:
        inputs: One picture (n, channels, height, width).
        outputs: Number of outputs.
        block: "basic", two 3x3 convolutions, or "bottleneck": 1x1, 3x3, and 1x1 to four times the channels.
        channels: Of the 3x3 convolutions of each stage; every stage but the first halves the picture.
        blocks: How many in each stage; 0 in the first saves the most expensive ones.
        dropout: Before the last layer.

    Returns:
        A module: float (n, channels, height, width) -> float (n, outputs).

    Raises:
        RecipeError: if the input is no picture, or too small to be halved so often.
    """
    from torch import nn

    picture = picture_of(inputs, "resnet", halvings=len(channels) - 1)
    width = channels[0]
    large = min(picture.height, picture.width) >= LARGE_PIXELS
    layers = _large_stem(picture.channels, width) if large else _convolution(picture.channels, width, 3)
    for stage, (narrow, count) in enumerate(zip(channels, blocks, strict=True)):
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            layers.append(_block(block, width, narrow, stride))
            width = narrow * _WIDENING[block]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(width, outputs)]
    return initialise_he(nn.Sequential(*layers, *head))


def _block(kind: Block, width: int, narrow: int, stride: int) -> nn.Module:
    """One block: (n, width, h, w) -> (n, narrow or 4 * narrow, h / stride, w / stride); ReLU comes after the sum.

    A bottleneck's stride is on its 3x3 convolution, which loses less of the picture than on the first 1x1.
    """
    from torch import nn

    from edgekit.families.layers import Residual

    out = narrow * _WIDENING[kind]
    if kind == "basic":
        body = [*_convolution(width, narrow, 3, stride), *_convolution(narrow, out, 3)]
    else:
        body = [
            *_convolution(width, narrow, 1),
            *_convolution(narrow, narrow, 3, stride),
            *_convolution(narrow, out, 1),
        ]
    same = stride == 1 and width == out
    shortcut = nn.Identity() if same else nn.Sequential(*_convolution(width, out, 1, stride)[:-1])
    return Residual(nn.Sequential(*body[:-1]), shortcut)


def _convolution(channels: int, out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Convolution, batch normalisation, ReLU: (n, channels, h, w) -> (n, out, h / stride, w / stride)."""
    from torch import nn

    convolution = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]


def _large_stem(channels: int, out: int) -> list[nn.Module]:
    """(n, channels, h, w) -> (n, out, h / 4, w / 4)."""
    from torch import nn

    return [*_convolution(channels, out, 7, stride=2), nn.MaxPool2d(3, stride=2, padding=1)]


RESNET = Family(
    name="resnet",
    summary="residual network of basic or bottleneck blocks",
    paper="He et al. 2015, arXiv:1512.03385; initialisation: arXiv:1502.01852",
    tasks=("classification",),
    sizes={
        "pico": {"block": "basic", "channels": (8, 16, 32), "blocks": (1, 1, 1)},
        "small": {"block": "basic", "channels": (24, 64, 128), "blocks": (1, 1, 1), "dropout": 0.1},
        "base": {"block": "basic", "channels": (64, 128, 256, 512), "blocks": (2, 2, 2, 2)},
        "wide": {"block": "basic", "channels": (32, 64, 128, 256), "blocks": (1, 1, 1, 1), "dropout": 0.1},
        "slim": {"block": "basic", "channels": (16, 48, 80), "blocks": (0, 1, 1)},
        "pico-bottleneck": {"block": "bottleneck", "channels": (8, 16), "blocks": (1, 1)},
        "small-bottleneck": {"block": "bottleneck", "channels": (16, 32, 64), "blocks": (2, 2, 2), "dropout": 0.1},
        "base-bottleneck": {"block": "bottleneck", "channels": (64, 128, 256, 512), "blocks": (3, 4, 6, 3)},
    },
    build=build_resnet,
    refuses={**DYNAMIC_IS_SLOW, **NO_HEADS},
)
