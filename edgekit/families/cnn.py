"""Plain convolutional network: stages of two 3x3 convolutions, halved between stages, global average at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekit.families.family import Family
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


def build_cnn(inputs: tuple[TensorSpec, ...], outputs: int, *, channels: Sequence[int], dropout: float) -> nn.Module:
    """Build a CNN.

    Args:
        inputs: One image input (n, channels, height, width).
        outputs: Number of outputs.
        channels: Channels of each stage; every stage but the first halves the picture.
        dropout: Before the last layer.

    Returns:
        A module: float (n, channels, height, width) -> float (n, outputs).
    """
    from torch import nn

    width = int(inputs[0].shape[1])
    layers: list[nn.Module] = []
    for stage, out in enumerate(channels):
        layers += conv_block(width, out, stride=1 if stage == 0 else 2)
        layers += conv_block(out, out)
        width = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(width, outputs))


CNN = Family(
    name="cnn",
    summary="plain convolutional network",
    paper="LeCun et al. 1998, Proc. IEEE 86; 3x3 stages: arXiv:1409.1556, global average: arXiv:1312.4400",
    tasks=("classification",),
    sizes={
        "pico": {"channels": (8, 16), "dropout": 0.0},
        "small": {"channels": (16, 32, 64), "dropout": 0.1},
        "base": {"channels": (64, 128, 256), "dropout": 0.2},
    },
    build=build_cnn,
    refuses={
        "quantize: dynamic": "ONNX Runtime runs dynamically quantised convolutions 3 to 8 times slower than float; "
        "use `quantize: static`",
    },
)
