"""Deep convolutional generative adversarial network (DCGAN): a generator, and the adversary that trains it."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from edgekit.families.family import NO_BLOCKS, NO_HEADS, Family
from edgekit.families.image import picture_of
from edgekit.families.latent import halvings, latent_input, positive
from edgekit.specs import TensorSpec

if TYPE_CHECKING:
    from torch import nn


def build_generator(inputs: tuple[TensorSpec, ...], outputs: int, *, latent: int, width: int) -> nn.Module:
    """Build the generator.

    From the smallest grid of at least 4x4 that the picture can be halved to, every transposed convolution doubles it.
    At 3x64x64 with latent 100 and width 64 it is the network of the paper, and its weights have the usual names.

    Args:
        inputs: One picture of the data (n, channels, height, width): what is generated.
        outputs: Not used; a generator has no classes.
        latent: Numbers that a picture is made of.
        width: Channels before the last layer; twice as many at every layer before.

    Returns:
        A module: float z (n, latent) -> float (n, channels, height, width) in -1..1.

    Raises:
        RecipeError: if the data gives no picture, or a number is not positive.
    """
    from torch import nn

    positive({"latent": latent, "width": width}, "latent", "width")
    channels, grid, doublings = _plan(inputs)
    count = width * 2 ** max(0, doublings - 1)
    layers: list[nn.Module] = [nn.ConvTranspose2d(latent, count, grid, bias=False), *_after(count)]
    for _ in range(doublings - 1):
        layers += [nn.ConvTranspose2d(count, count // 2, 4, 2, 1, bias=False), *_after(count // 2)]
        count //= 2
    last = (
        nn.ConvTranspose2d(count, channels, 4, 2, 1, bias=False) if doublings else nn.Conv2d(count, channels, 3, 1, 1)
    )
    return _started(
        nn.Sequential(OrderedDict(z=nn.Unflatten(1, (latent, 1, 1)), main=nn.Sequential(*layers, last, nn.Tanh())))
    )


def build_discriminator(inputs: tuple[TensorSpec, ...], *, latent: int, width: int) -> nn.Module:
    """Build the adversary: the generator mirrored, with spectral normalisation for batch normalisation.

    Args:
        inputs: One picture of the data (n, channels, height, width).
        latent: Not used.
        width: Channels after the first layer; twice as many at every layer after.

    Returns:
        A module: float (n, channels, height, width) in -1..1 -> float (n, 1), above 0 for what it takes for real.

    Source: Miyato et al. 2018, arXiv:1802.05957.
    """
    from torch import nn
    from torch.nn.utils.parametrizations import spectral_norm

    channels, grid, halved = _plan(inputs)
    layers: list[nn.Module] = []
    for step in range(halved):
        out = width * 2**step
        layers += [spectral_norm(nn.Conv2d(channels, out, 4, 2, 1)), nn.LeakyReLU(0.2)]
        channels = out
    return _started(nn.Sequential(*layers, spectral_norm(nn.Conv2d(channels, 1, grid)), nn.Flatten()))


def _plan(inputs: tuple[TensorSpec, ...]) -> tuple[int, tuple[int, int], int]:
    """Channels of the picture, height and width of the smallest grid, and how often it is doubled."""
    channels, height, width = picture_of(inputs, "gan")
    count = halvings(height, width)
    return channels, (height >> count, width >> count), count


def _after(channels: int) -> list[nn.Module]:
    from torch import nn

    return [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def _started(module: nn.Module) -> nn.Module:
    """Weights from N(0, 0.02), as the paper has it."""
    from torch import nn

    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
    return module


GAN = Family(
    name="gan",
    summary="deep convolutional GAN (DCGAN): noise to pictures; the generator is exported",
    paper="Radford, Metz and Chintala 2015, arXiv:1511.06434; spectral normalisation: arXiv:1802.05957",
    tasks=("generation",),
    sizes={
        "pico": {"latent": 16, "width": 8},
        "small": {"latent": 64, "width": 48},
        "base": {"latent": 100, "width": 64},
        "slim": {"latent": 64, "width": 24},
    },
    build=build_generator,
    inputs=latent_input,
    discriminator=build_discriminator,
    refuses={
        **NO_HEADS,
        **NO_BLOCKS,
        "quantize: dynamic": "ONNX Runtime has no dynamic kernel of transposed convolutions; use `quantize: weights`",
        "quantize: aware": "the exported generator is trained without its discriminator then; use `quantize: static`",
    },
)
