"""Relations: how far samples of a batch are from each other in the teacher's eyes, and at which angles."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from edgekit.compress.distill.losses.logits import OF_TEXT
from edgekit.compress.distill.losses.loss import Loss, Pair, Term
from edgekit.compress.distill.spots import penultimate
from edgekit.training.teaching import TeachingConfig

if TYPE_CHECKING:
    from torch import Tensor

    from edgekit.training.objective import LearningBatch
    from edgekit.training.seen import Seen, Spot

_EPSILON = 1e-12


def distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss between distances of all pairs, those of each model divided by their mean.

    Args:
        student: float (n, a).
        teacher: float (n, b).

    Source: Park et al. 2019, arXiv:1904.05068, equations 5 to 7.
    """
    from torch.nn import functional

    return functional.smooth_l1_loss(_distances(student.float()), _distances(teacher.float()))


def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss between the cosines of the angles that all triples of samples span.

    Args:
        student: float (n, a).
        teacher: float (n, b).

    Source: Park et al. 2019, arXiv:1904.05068, equations 8 to 10.
    """
    from torch.nn import functional

    return functional.smooth_l1_loss(_cosines(student.float()), _cosines(teacher.float()))


def _distances(x: Tensor) -> Tensor:
    """(n, d) -> (n, n), 0 on the diagonal, mean of the others 1."""
    import torch

    squares = x.square().sum(1)
    products = squares[:, None] + squares[None, :] - 2 * x @ x.T
    apart = ~torch.eye(len(x), dtype=torch.bool, device=x.device)
    found = products.clamp(min=_EPSILON).sqrt() * apart
    return found / found[apart].mean().clamp(min=_EPSILON)


def _cosines(x: Tensor) -> Tensor:
    """(n, d) -> (n, n, n): at each sample, the cosine of the angle between the directions to two others."""
    from torch.nn import functional

    directions = functional.normalize(x[None] - x[:, None], dim=2)
    return directions @ directions.transpose(1, 2)


def _compare(
    options: TeachingConfig, ours: Spot | None, theirs: Spot | None, student: Seen, teacher: Seen, batch: LearningBatch
) -> Tensor:
    pair = [
        (seen.outputs[0] if spot is None else seen.spots[spot]).flatten(1)
        for seen, spot in ((student, ours), (teacher, theirs))
    ]
    found = pair[0].new_zeros(())
    if options.distance:
        found = found + options.distance * distance_loss(*pair)
    return found + options.angle * angle_loss(*pair) if options.angle else found


def _make(options: TeachingConfig, pair: Pair) -> Term:
    """What enters the last layer of both; the outputs, where no more of the teacher can be had."""
    if pair.teacher is None:
        return Term(partial(_compare, options, None, None))
    ours = penultimate(pair.student, pair.student_inputs, "the student")
    theirs = penultimate(pair.teacher, pair.teacher_inputs, pair.teacher_name)
    return Term(partial(_compare, options, ours, theirs), (ours,), (theirs,))


RELATION = Loss(
    name="relation",
    summary="distances and angles between the samples of a batch, before the last layer",
    paper="Park et al. 2019, arXiv:1904.05068",
    make=_make,
    tasks=("classification", "regression"),
    instead={
        **dict.fromkeys(("step-classification", *OF_TEXT), "logits"),
        **dict.fromkeys(("reconstruction", "generation"), "outputs"),
    },
)
