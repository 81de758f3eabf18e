"""Principal components: what a reconstruction by a few numbers must beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.specs import Array

# Shares of white that a black pixel is given; the best of them on training pictures is taken.
_FLOORS = (0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1)


@dataclass(frozen=True)
class Components:
    """The directions in which pictures differ most.

    Attributes:
        mean: float64 (pixels,).
        directions: float64 (components, pixels), orthonormal, the strongest first.
    """

    mean: Array
    directions: Array

    def reconstruct(self, images: Array) -> Array:
        """Pictures through the components and back: (n, ...) -> float64 (n, pixels)."""
        centred = images.reshape(len(images), -1) - self.mean
        return np.asarray(centred @ self.directions.T @ self.directions + self.mean)


def principal_components(images: Array, count: int) -> Components:
    """The strongest components of pictures.

    Args:
        images: (n, ...); n above the number of pixels is a sum over all of them, so memory stays that of one matrix.
        count: How many; at most the number of pixels.

    Source: Pearson 1901, Philosophical Magazine 2; here by the eigenvectors of the covariance.
    """
    flat = images.reshape(len(images), -1)
    mean = flat.mean(axis=0, dtype=np.float64)
    products = (flat.T @ flat).astype(np.float64) / len(flat)
    _, vectors = np.linalg.eigh(products - np.outer(mean, mean))
    return Components(mean, np.ascontiguousarray(vectors[:, ::-1][:, :count].T))


def likelihood(components: Components, images: Array, floor: float) -> Array:
    """Bernoulli log-likelihood of pictures under their own reconstruction, in nats: (n, ...) -> float64 (n,).

    Args:
        components: Of other pictures.
        images: Pixels in 0..1.
        floor: Reconstructed pixels are held within floor..1 - floor: outside, the likelihood knows no value.
    """
    x = images.reshape(len(images), -1).astype(np.float64)
    p = np.clip(components.reconstruct(images), floor, 1 - floor)
    return np.asarray((x * np.log(p) + (1 - x) * np.log1p(-p)).sum(axis=1))


def best_floor(components: Components, images: Array) -> float:
    """The floor under which these pictures are likeliest."""
    return max(_FLOORS, key=lambda floor: float(likelihood(components, images, floor).mean()))
