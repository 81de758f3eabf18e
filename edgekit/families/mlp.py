"""Multilayer perceptron with batch normalisation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgekit.families.family import NO_BLOCKS, NO_HEADS, Family
from edgekit.specs import TensorSpec

if TYPE_CHECKING:
    from torch import nn


def build_mlp(inputs: tuple[TensorSpec, ...], outputs: int, *, width: int, depth: int, dropout: float) -> nn.Module:
    """Build an MLP.

    Args:
        inputs: One input (n, ...); all but the first dimension are flattened.
        outputs: Number of outputs.
        width: Units of each hidden layer.
        depth: Number of hidden layers.
        dropout: After each hidden layer.

    Returns:
        A module: float (n, ...) -> float (n, outputs).
    """
    from torch import nn

    features = math.prod(int(d) for d in inputs[0].shape[1:])
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(depth):
        layers += [nn.Linear(features, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, outputs))


MLP = Family(
    name="mlp",
    summary="multilayer perceptron",
    paper="Rumelhart, Hinton and Williams 1986, Nature 323; batch normalisation: arXiv:1502.03167",
    tasks=("classification", "regression"),
    sizes={
        "pico": {"width": 32, "depth": 1, "dropout": 0.0},
        "small": {"width": 512, "depth": 2, "dropout": 0.2},
        "base": {"width": 1024, "depth": 3, "dropout": 0.2},
    },
    build=build_mlp,
    refuses={**NO_HEADS, **NO_BLOCKS},
)
