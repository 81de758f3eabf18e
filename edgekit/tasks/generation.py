"""Generation: pictures out of noise, judged beside real ones by the features of a classifier.

What is scored of a sample is a row of features: those of the generated picture, then those of a real one. The
classifier is the data's own (`edgekit.judge`): figures compare within a data set, and not with those of an
Inception network.
"""

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

_NEIGHBOUR = 3
_MANIFOLD = 2000  # samples; distances are taken between all pairs


def doubted(outputs: Sequence[Tensor], batch: TrainingBatch) -> Tensor:
    """The generator's half of the hinge loss: what the adversary says against its pictures, mean over the batch.

    Args:
        outputs: What the adversary says of the generated pictures, (n, 1), above 0 for real.
        batch: Not looked at.

    Source: Lim and Ye 2017, arXiv:1705.02894.
    """
    return -outputs[0].float().mean()


def frechet_distance(scores: Array) -> float:
    """Squared Fréchet distance between normal distributions fitted to the two halves of the columns.

    tr sqrt(A B) is taken from the eigenvalues of sqrt(A) B sqrt(A), which is symmetric: no complex numbers arise, also
    where there are fewer samples than features.

    Args:
        scores: Floats (n, 2 k): features of generated pictures, features of real ones.

    Source: Heusel et al. 2017, arXiv:1706.08500; Dowson and Landau 1982, J. Multivariate Analysis 12.
    """
    if len(scores) < 2:
        return float("nan")
    made, real = np.hsplit(scores.astype(np.float64), 2)
    a, b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (made, real))
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T
    overlap = np.sqrt(np.clip(np.linalg.eigvalsh(root @ b @ root), 0.0, None)).sum()
    apart = float(np.square(made.mean(axis=0) - real.mean(axis=0)).sum() + np.trace(a) + np.trace(b) - 2 * overlap)
    return max(apart, 0.0)


def precision(scores: Array) -> float:
    """Share of generated pictures that lie among the real ones: how good they look.

    Args:
        scores: Floats (n, 2 k); the first 2000 rows are looked at.

    Source: Kynkaanniemi et al. 2019, arXiv:1904.06991, with the third neighbour.
    """
    made, real = np.hsplit(scores[:_MANIFOLD].astype(np.float64), 2)
    return _covered(made, real)


def recall(scores: Array) -> float:
    """Share of real pictures that lie among the generated ones: how much is covered; scores as for `precision`."""
    made, real = np.hsplit(scores[:_MANIFOLD].astype(np.float64), 2)
    return _covered(real, made)


def _covered(points: Array, manifold: Array) -> float:
    """Share of points that lie within the ball of a manifold's point, which reaches to its third neighbour."""
    k = min(_NEIGHBOUR, len(manifold) - 1)
    # the nearest point to each is itself
    radii = np.partition(_squared_distances(manifold, manifold), k, axis=1)[:, k]
    return float((_squared_distances(points, manifold) <= radii).any(axis=1).mean())


def _squared_distances(a: Array, b: Array) -> Array:
    """(n, k) and (m, k) -> (n, m), without a difference of every pair in memory."""
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)[None, :]
    return np.asarray(np.clip(squares - 2 * a @ b.T, 0.0, None))


def _without_judge(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    raise DataError(
        "this metric needs a judge, a classifier of a named data set; name the data set (`edgekit list data`) "
        "as --data or as --judge"
    )


FRECHET = Metric("frechet", False, "dist²", _without_judge, over=frechet_distance, needs_judge=True)
PRECISION = Metric("precision", True, "", _without_judge, over=precision, needs_judge=True)
RECALL = Metric("recall", True, "", _without_judge, over=recall, needs_judge=True)

GENERATION = Task(
    name="generation",
    summary="pictures out of noise",
    metric="frechet",
    also=("precision", "recall"),
    loss=doubted,
    outputs=("image",),
    drift="snr",
    baseline="untrained",
    labelled=False,
)
