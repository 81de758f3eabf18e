"""Variational autoencoder: pictures to a few numbers and back, dense or convolutional."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from edgekit.errors import RecipeError
from edgekit.families.family import NO_BLOCKS, NO_HEADS, Family, Part, as_the_data
from edgekit.families.image import picture_of
from edgekit.families.latent import halvings, latent_input, positive
from edgekit.specs import TensorSpec

if TYPE_CHECKING:
    from torch import nn


def with_noise(inputs: tuple[TensorSpec, ...], size: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    """What the model takes: the picture, and noise (batch, latent) from a standard normal distribution."""
    positive(size, "latent")
    return (*inputs, TensorSpec("noise", "float32", ("batch", size["latent"])))


def build_vae(
    inputs: tuple[TensorSpec, ...],
    outputs: int,
    *,
    latent: int,
    widths: Sequence[int] = (),
    channels: Sequence[int] = (),
) -> nn.Module:
    """Build a VAE; the noise of the reparameterisation is an input, so that the graph is deterministic.

    Args:
        inputs: One picture of the data (n, channels, height, width), pixels in 0..1.
        outputs: Not used; it has no classes.
        latent: Numbers that a picture is made of.
        widths: Of the hidden layers of a dense encoder; the decoder mirrors them. Give these or `channels`.
        channels: Of a convolutional encoder, halving the picture at each; the decoder mirrors them.

    Returns:
        A module: image (n, c, h, w) and noise (n, latent) -> reconstruction (n, c, h, w) in 0..1, mean (n, latent),
        log_variance (n, latent), logits (n, c, h, w); reconstruction is sigmoid(logits). Its `encoder` and `decoder`
        are modules of their own.

    Raises:
        RecipeError: if the data gives no picture, it cannot be halved so often, or a number is not positive.
    """
    from edgekit.families.vae_module import VariationalAutoencoder

    positive({"latent": latent}, "latent")
    shape = picture_of(inputs, "vae")
    encoder, decoder = _convolutional(shape, latent, channels) if channels else _dense(shape, latent, widths)
    return VariationalAutoencoder(encoder, decoder)


def _dense(shape: tuple[int, int, int], latent: int, widths: Sequence[int]) -> tuple[Any, Any]:
    from torch import nn

    from edgekit.families.vae_module import Decoder, Encoder, dense_layers

    pixels = math.prod(shape)
    encoder = Encoder(nn.Sequential(nn.Flatten(), *dense_layers([pixels, *widths])), [pixels, *widths][-1], latent)
    back = [latent, *reversed(widths)]
    decoder = nn.Sequential(*dense_layers(back), nn.Linear(back[-1], pixels), nn.Unflatten(1, shape))
    return encoder, Decoder(decoder)


def _convolutional(shape: tuple[int, int, int], latent: int, channels: Sequence[int]) -> tuple[Any, Any]:
    from torch import nn

    from edgekit.families.vae_module import Decoder, Encoder, doubling, halving

    depth, (pixels, height, width) = len(channels), shape
    if halvings(height, width, least=1) < depth:
        raise RecipeError(
            f"a vae of {depth} halvings cannot take a picture of {height}x{width}; its sides must be multiples of "
            f"{2**depth}; choose another size"
        )
    grid = (channels[-1], height >> depth, width >> depth)
    down = [layer for pair in pairwise((pixels, *channels)) for layer in halving(*pair)]
    encoder = Encoder(nn.Sequential(*down, nn.Flatten()), math.prod(grid), latent)
    steps = list(reversed(channels))
    up = [layer for pair in pairwise(steps) for layer in doubling(*pair)]
    start = [nn.Linear(latent, math.prod(grid), bias=False), nn.Unflatten(1, grid), nn.BatchNorm2d(grid[0]), nn.ReLU()]
    last = [nn.Conv2d(steps[-1], 4 * pixels, 3, 1, 1), nn.PixelShuffle(2)]
    return encoder, Decoder(nn.Sequential(*start, *up, *last))


VAE = Family(
    name="vae",
    summary="variational autoencoder, convolutional (or `dense`); encoder and decoder can be exported apart",
    paper="Kingma and Welling 2013, arXiv:1312.6114; sub-pixel convolution: arXiv:1609.05158",
    tasks=("reconstruction",),
    sizes={
        "pico": {"latent": 8, "channels": (8, 16)},
        "small": {"latent": 16, "channels": (32, 64)},
        "base": {"latent": 32, "channels": (64, 128)},
        "pico-dense": {"latent": 8, "widths": (64,)},
        "dense": {"latent": 16, "widths": (512, 256)},
    },
    build=build_vae,
    inputs=with_noise,
    refuses={**NO_HEADS, **NO_BLOCKS},
    parts={
        "encoder": Part(attrgetter("encoder"), as_the_data, ("mean", "log_variance")),
        "decoder": Part(attrgetter("decoder"), latent_input, ("reconstruction",)),
    },
)
