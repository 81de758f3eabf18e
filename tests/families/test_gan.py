from __future__ import annotations

from typing import Any

import pytest
import torch

from edgekit.errors import RecipeError
from edgekit.families import FAMILIES
from edgekit.families.gan import build_discriminator, build_generator
from edgekit.families.latent import halvings
from edgekit.specs import TensorSpec

GAN = FAMILIES["gan"]


def picture(channels: int, height: int, width: int) -> tuple[TensorSpec, ...]:
    return (TensorSpec("image", "float32", ("batch", channels, height, width)),)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 20, 12), (3, 64, 64), (1, 7, 5)])
def test_the_generator_gives_what_the_discriminator_takes(shape: tuple[int, int, int]) -> None:
    size = GAN.sizes["pico"]
    generator = GAN.make("pico", picture(*shape), 10).eval()
    discriminator = build_discriminator(picture(*shape), **size)
    made = generator(torch.randn(2, size["latent"]))
    assert made.shape == (2, *shape)
    assert float(made.detach().abs().max()) <= 1
    assert discriminator(made).shape == (2, 1)


def test_z_takes_the_place_of_the_picture() -> None:
    assert GAN.model_inputs("base", picture(3, 64, 64)) == (TensorSpec("z", "float32", ("batch", 100)),)


def test_base_is_the_network_of_the_paper() -> None:
    """Names and shapes of the usual implementation at 3x64x64, so that its checkpoints can be read."""
    weights = {k: tuple(v.shape) for k, v in GAN.make("base", picture(3, 64, 64), 0).state_dict().items()}
    convolutions = {k: v for k, v in weights.items() if len(v) == 4}
    assert convolutions == {
        "main.0.weight": (100, 512, 4, 4),
        "main.3.weight": (512, 256, 4, 4),
        "main.6.weight": (256, 128, 4, 4),
        "main.9.weight": (128, 64, 4, 4),
        "main.12.weight": (64, 3, 4, 4),
    }
    assert weights["main.10.running_mean"] == (64,)
    assert all(k.startswith("main.") for k in weights)


def test_halvings() -> None:
    assert [halvings(s, s) for s in (4, 7, 8, 28, 30, 32, 64)] == [0, 0, 1, 2, 1, 3, 4]
    assert halvings(20, 12) == 1


def test_the_discriminator_is_bounded() -> None:
    """Spectral normalisation: no layer stretches by more than 1, and leaky ReLU does not either."""
    torch.manual_seed(0)
    net = build_discriminator(picture(1, 8, 8), latent=4, width=8)
    for _ in range(50):  # power iteration
        net(torch.randn(4, 1, 8, 8))
    for layer in net:
        if isinstance(layer, torch.nn.Conv2d):
            assert float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("given", [{"latent": 0, "width": 8}, {"latent": 8, "width": 0}])
def test_sizes_that_are_none(given: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="must be a whole number of at least 1, got 0"):
        build_generator(picture(1, 8, 8), 0, **given)


def test_data_that_is_no_picture() -> None:
    with pytest.raises(RecipeError, match="family 'gan' takes one picture"):
        GAN.make("pico", (TensorSpec("x", "float32", ("batch", 6)),), 10)
