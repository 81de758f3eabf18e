"""The modules of a variational autoencoder; imported only where torch is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class Encoder(nn.Module):
    """Image (n, channels, height, width) -> mean and logarithm of the variance of q(z | image), (n, latent) each."""

    def __init__(self, features: nn.Module, count: int, latent: int) -> None:
        super().__init__()
        self.features = features
        self.mean = nn.Linear(count, latent)
        self.log_variance = nn.Linear(count, latent)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The two halves of the answer, from the same features."""
        features = self.features(image)
        return self.mean(features), self.log_variance(features)


class Decoder(nn.Module):
    """z (n, latent) -> picture (n, channels, height, width), pixels in 0..1; `logits` gives what the sigmoid gets."""

    def __init__(self, logits: nn.Module) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, z: Tensor) -> Tensor:
        """The picture."""
        picture: Tensor = self.logits(z).sigmoid()
        return picture


class VariationalAutoencoder(nn.Module):
    """Encoder and decoder, joined by z = mean + exp(log_variance / 2) * noise; the noise is an input."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, image: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Image (n, ...) and noise (n, latent) -> reconstruction (n, ...), mean, log_variance (n, latent), logits."""
        mean, log_variance = self.encoder(image)
        logits = self.decoder.logits(mean + (log_variance / 2).exp() * noise)
        return logits.sigmoid(), mean, log_variance, logits


def dense_layers(widths: Sequence[int]) -> list[nn.Module]:
    """Linear layers through these widths, each with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    return layers


def halving(before: int, after: int) -> list[nn.Module]:
    """(n, before, h, w) -> (n, after, h / 2, w / 2)."""
    return [nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]


def doubling(before: int, after: int) -> list[nn.Module]:
    """(n, before, h, w) -> (n, after, 2 h, 2 w) by sub-pixel convolution, which int8 kernels can run.

    Source: Shi et al. 2016, arXiv:1609.05158.
    """
    normed = [nn.BatchNorm2d(4 * after), nn.ReLU(inplace=True)]
    return [nn.Conv2d(before, 4 * after, 3, 1, 1, bias=False), *normed, nn.PixelShuffle(2)]
