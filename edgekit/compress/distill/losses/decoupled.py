"""Decoupled logits: what the teacher says of the right class, and how it orders the wrong ones, weighed apart.

In plain distillation the second part counts less the surer the teacher is, though it is what teaches most.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from edgekit.compress.distill.losses.logits import OF_TEXT, softened_divergence
from edgekit.compress.distill.losses.loss import Loss, Pair, Term
from edgekit.training.teaching import TeachingConfig

if TYPE_CHECKING:
    from torch import Tensor

    from edgekit.training.objective import LearningBatch
    from edgekit.training.seen import Seen

_FAR = 1e4  # below every other logit by so much that its probability is 0
_INSTEAD = {
    **dict.fromkeys(("step-classification", *OF_TEXT), "logits"),
    **dict.fromkeys(("regression", "reconstruction", "generation"), "outputs"),
}


def decoupled_divergence(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, target: float, others: float
) -> Tensor:
    """T^2 (target TCKD + others NCKD), mean over the samples.

    TCKD is the divergence of the two probabilities right and wrong, NCKD that of the wrong classes among themselves.

    Args:
        student: Logits, float (n, classes).
        teacher: Of the same shape.
        labels: int64 (n,), the right classes.
        temperature: T.
        target: Alpha of the paper.
        others: Beta of the paper.

    Source: Zhao et al. 2022, arXiv:2203.08679, equation 7.
    """
    import torch

    right = torch.nn.functional.one_hot(labels, student.shape[-1]).bool()
    ours, theirs = (_right_or_wrong(z.float() / temperature, right) for z in (student, teacher))
    of_target = temperature**2 * (theirs.exp() * (theirs - ours)).sum(-1)
    without = [z.float() - _FAR * right for z in (student, teacher)]
    of_others = softened_divergence(without[0], without[1], temperature)
    return (target * of_target + others * of_others).mean()


def _right_or_wrong(logits: Tensor, right: Tensor) -> Tensor:
    """Logarithms of the probabilities of the right class and of all others together: (n, classes) -> (n, 2)."""
    import torch

    known = logits.log_softmax(-1)
    return torch.stack(
        [known.masked_fill(~right, -_FAR).logsumexp(-1), known.masked_fill(right, -_FAR).logsumexp(-1)], -1
    )


def _compare(options: TeachingConfig, student: Seen, teacher: Seen, batch: LearningBatch) -> Tensor:
    ours, theirs = student.outputs[0], teacher.outputs[0]

    def loss(labels: Tensor | None) -> Tensor:
        known = theirs.argmax(-1) if labels is None else labels
        return decoupled_divergence(ours, theirs, known, options.temperature, options.target, options.others)

    return batch.mixed.loss(loss)


def _make(options: TeachingConfig, pair: Pair) -> Term:
    return Term(partial(_compare, options))


DECOUPLED = Loss(
    name="decoupled",
    summary="probability of the right class, and those of the wrong ones among themselves, weighed apart",
    paper="Zhao et al. 2022, arXiv:2203.08679",
    make=_make,
    tasks=("classification",),
    instead=_INSTEAD,
)
