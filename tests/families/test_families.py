from __future__ import annotations

import math

import pytest
import torch

from edgekit.errors import RecipeError
from edgekit.families import FAMILIES
from edgekit.specs import TensorSpec
from edgekit.tasks import TASKS

DIGITS = (TensorSpec("image", "float32", ("batch", 1, 8, 8)),)
COLOUR = (TensorSpec("image", "float32", ("batch", 3, 20, 12)),)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_says_what_it_is(name: str) -> None:
    family = FAMILIES[name]
    assert family.name == name
    assert list(family.sizes) == ["pico", "small", "base"]
    assert set(family.tasks) <= set(TASKS)
    assert family.summary
    assert family.paper


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("inputs", [DIGITS, COLOUR], ids=["grey", "colour"])
def test_shapes_at_every_size(name: str, inputs: tuple[TensorSpec, ...]) -> None:
    family = FAMILIES[name]
    weights = []
    for size in family.sizes:
        module = family.make(size, inputs, 7).eval()
        out = module(torch.zeros(3, *(int(d) for d in inputs[0].shape[1:])))
        assert out.shape == (3, 7)
        assert out.dtype == torch.float32
        weights.append(sum(p.numel() for p in module.parameters()))
    assert weights == sorted(weights)


@pytest.mark.parametrize("name", FAMILIES)
def test_unknown_size_gives_the_nearest(name: str) -> None:
    with pytest.raises(RecipeError) as error:
        FAMILIES[name].make("smal", DIGITS, 10)
    assert str(error.value) == (
        f"unknown size of family '{name}' 'smal'; did you mean 'small'? allowed: base, pico, small"
    )


def test_cnn_weights_against_the_formula() -> None:
    """Two 3x3 convolutions a stage without bias, two numbers a channel of batch normalisation, one linear layer."""
    channels = (8, 16)
    pairs = [(1, 8), (8, 8), (8, 16), (16, 16)]
    wanted = sum(9 * a * b + 2 * b for a, b in pairs) + channels[-1] * 10 + 10
    assert sum(p.numel() for p in FAMILIES["cnn"].make("pico", DIGITS, 10).parameters()) == wanted


def test_mlp_weights_against_the_formula() -> None:
    features = math.prod((1, 8, 8))
    wanted = features * 32 + 2 * 32 + 32 * 10 + 10
    assert sum(p.numel() for p in FAMILIES["mlp"].make("pico", DIGITS, 10).parameters()) == wanted


def test_cnn_halves_the_picture_between_stages() -> None:
    module = FAMILIES["cnn"].make("small", DIGITS, 10).eval()
    shapes = []
    value = torch.zeros(1, 1, 8, 8)
    for layer in module:
        value = layer(value)
        if isinstance(layer, torch.nn.Conv2d):
            shapes.append(tuple(value.shape[1:]))
    assert shapes == [(16, 8, 8), (16, 8, 8), (32, 4, 4), (32, 4, 4), (64, 2, 2), (64, 2, 2)]
