"""Outputs: the student gives what the teacher gives for the same input and the same noise.

For numbers, and for the pictures of a generator or an autoencoder.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from edgekit.compress.distill.losses.logits import OF_CLASSES
from edgekit.compress.distill.losses.loss import Loss, Pair, Term
from edgekit.training.teaching import TeachingConfig

if TYPE_CHECKING:
    from torch import Tensor

    from edgekit.training.objective import LearningBatch
    from edgekit.training.seen import Seen


def match_outputs(student: Tensor, teacher: Tensor, norm: str) -> Tensor:
    """Mean absolute ("l1") or squared ("l2") difference: (n, ...) twice -> scalar.

    Source: for generators Aguinaldo et al. 2019, arXiv:1902.00159, equation 1.
    """
    difference = student.float() - teacher.float().reshape(student.shape)
    return difference.abs().mean() if norm == "l1" else difference.square().mean()


def match_autoencoders(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    """How many nats the student's picture is from the teacher's, and its latents where they are as many.

    The first is the Bernoulli cross-entropy of the teacher's pixels under the student's logits less their entropy, the
    second KL(q_teacher(z | image) || q_student(z | image)); both are what the ELBO is made of. Mean over the pictures.

    Args:
        student: Reconstruction, mean, log_variance and logits, as the task names them.
        teacher: The same.
    """
    from torch.nn import functional

    logits, wanted = student[3].float(), teacher[3].float()
    chance = wanted.sigmoid()
    pixels = [functional.binary_cross_entropy_with_logits(z, chance, reduction="sum") for z in (logits, wanted)]
    found = (pixels[0] - pixels[1]) / len(logits)
    return found + _latent_divergence(student, teacher) if student[1].shape == teacher[1].shape else found


def _latent_divergence(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    """KL of two normal distributions with diagonal covariances, mean over the batch."""
    (m, v), (n, w) = ((x[1].float(), x[2].float()) for x in (teacher, student))
    each = 0.5 * (w - v + (v.exp() + (m - n).square()) / w.exp() - 1)
    return each.sum() / len(m)


def _compare(norm: str, student: Seen, teacher: Seen, batch: LearningBatch) -> Tensor:
    return match_outputs(student.outputs[0], teacher.outputs[0], norm)


def _compare_autoencoders(student: Seen, teacher: Seen, batch: LearningBatch) -> Tensor:
    return match_autoencoders(student.outputs, teacher.outputs)


def _make(options: TeachingConfig, pair: Pair) -> Term:
    return Term(_compare_autoencoders if pair.task == "reconstruction" else partial(_compare, options.norm))


OUTPUTS = Loss(
    name="outputs",
    summary="the teacher's numbers or pictures, for the same input and noise",
    paper="Aguinaldo et al. 2019, arXiv:1902.00159",
    make=_make,
    tasks=("regression", "reconstruction", "generation"),
    instead=dict.fromkeys(OF_CLASSES, "logits"),
)
