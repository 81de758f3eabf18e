"""Reconstruction: a picture through a few numbers and back, by a variational autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import DataError
from edgekit.specs import Array, Feeds
from edgekit.tasks.metric import Metric
from edgekit.tasks.task import Task, TrainingBatch

if TYPE_CHECKING:
    from torch import Tensor

OUTPUTS = ("reconstruction", "mean", "log_variance", "logits")


def negative_elbo(outputs: Sequence[Tensor], batch: TrainingBatch) -> Tensor:
    """Minus the evidence lower bound, in nats, mean over the pictures.

    Args:
        outputs: Reconstruction (not used: its logits say the same more exactly), mean, log_variance, logits.
        batch: Its first input is the picture (n, ...), pixels in 0..1.
    """
    from torch.nn import functional

    _, mean, log_variance, logits = (o.float() for o in outputs)
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, batch.inputs[0].float(), reduction="sum")
    divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
    return (cross_entropy + divergence) / len(mean)


def bernoulli(logits: Array, image: Array) -> Array:
    """Log-likelihood of pictures in nats, each pixel of 0..1 taken for the chance of white.

    Args:
        logits: (n, ...); softplus takes them whole, so that nothing saturates as in a sigmoid.
        image: Of the same shape.

    Returns:
        float64 (n,), the sum over the pixels.
    """
    x, y = image.reshape(len(image), -1).astype(np.float64), logits.reshape(len(image), -1).astype(np.float64)
    return np.asarray((x * y - np.logaddexp(0.0, y)).sum(axis=1))


def divergence(mean: Array, log_variance: Array) -> Array:
    """Kullback-Leibler divergence of N(mean, exp(log_variance)) from N(0, 1), in nats: (n, latent) -> float64 (n,)."""
    m, v = mean.astype(np.float64), log_variance.astype(np.float64)
    return np.asarray(-0.5 * (1 + v - np.square(m) - np.exp(v)).sum(axis=1))


def _elbo(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    """The evidence lower bound of each picture: Bernoulli log-likelihood under the fed noise, less the divergence.

    Source: Kingma and Welling 2013, arXiv:1312.6114, equation 10.
    """
    if len(outputs) != len(OUTPUTS):
        raise DataError(
            f"metric 'elbo' needs the outputs {', '.join(OUTPUTS)}, got {len(outputs)} outputs; choose another --metric"
        )
    _, mean, log_variance, logits = outputs
    image = _picture("elbo", logits, feeds)
    if image.min(initial=0.0) < 0 or image.max(initial=0.0) > 1:
        raise DataError(
            f"metric 'elbo' needs pixels in 0..1, got {image.min():.3g}..{image.max():.3g}; scale the pictures"
        )
    return bernoulli(logits, image) - divergence(mean, log_variance)


def _divergence(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    return divergence(outputs[1], outputs[2])


def _pixel_error(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    picture = outputs[0].astype(np.float64)
    error = np.square(picture - _picture("pixel-error", outputs[0], feeds))
    return np.asarray(error.reshape(len(error), -1).mean(axis=1))


def _picture(metric: str, output: Array, feeds: Feeds) -> Array:
    """What was to be reconstructed: the input of the output's shape."""
    for array in feeds.values():
        if array.shape == output.shape:
            return array
    fed = ", ".join(f"{name} {array.shape}" for name, array in feeds.items())
    raise DataError(f"metric {metric!r} needs an input of the output's shape {output.shape}, got {fed or 'none'}")


def _root(mean: float) -> float:
    return float(np.sqrt(max(mean, 0.0)))


ELBO = Metric("elbo", True, "nats", _elbo, needs_labels=False)
DIVERGENCE = Metric("divergence", False, "nats", _divergence, needs_labels=False)  # a term of the ELBO
PIXEL_ERROR = Metric("pixel-error", False, "of 1", _pixel_error, needs_labels=False, reduce=_root)

RECONSTRUCTION = Task(
    name="reconstruction",
    summary="a picture through a few numbers and back",
    metric="elbo",
    also=("pixel-error",),
    loss=negative_elbo,
    outputs=OUTPUTS,
    drift="snr",
    baseline="components",
    labelled=False,
)
