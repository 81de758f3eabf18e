"""Logits: the student learns the teacher's probabilities, softened so that it sees which wrong answers are near.

For a model of series or text that is done at each step: the word-level distillation of Kim and Rush.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from edgekit.compress.distill.losses.loss import Loss, Pair, Term
from edgekit.compress.distill.losses.positions import mean_of_steps
from edgekit.training.teaching import TeachingConfig

if TYPE_CHECKING:
    from torch import Tensor

    from edgekit.training.objective import LearningBatch
    from edgekit.training.seen import Seen

OF_TEXT = ("language-modelling", "masked-language-modelling", "sequence-to-sequence")
OF_CLASSES = ("classification", "step-classification", *OF_TEXT)
_INSTEAD = {task: "outputs" for task in ("regression", "reconstruction", "generation")}


def softened_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)) of each row, in nats.

    Its gradient is that of the soft cross-entropy; T^2 keeps its size beside the labels' loss.

    Args:
        student: Logits, float (..., classes).
        teacher: Of the same shape.
        temperature: T.

    Returns:
        float (...).

    Source: Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2.
    """
    from torch.nn import functional

    ours = functional.log_softmax(student.float() / temperature, dim=-1)
    theirs = functional.log_softmax(teacher.float() / temperature, dim=-1)
    return temperature**2 * (theirs.exp() * (theirs - ours)).sum(-1)


def _compare(temperature: float, student: Seen, teacher: Seen, batch: LearningBatch) -> Tensor:
    """The sum over the outputs, which are all logits, of their mean over samples and steps."""
    found = [
        mean_of_steps(softened_divergence(ours, theirs, temperature), batch)
        for ours, theirs in zip(student.outputs, teacher.outputs, strict=True)
    ]
    return sum(found[1:], found[0])


def _make(options: TeachingConfig, pair: Pair) -> Term:
    return Term(partial(_compare, options.temperature))


LOGITS = Loss(
    name="logits",
    summary="probabilities of the teacher, softened; of each step for series and text",
    paper="Hinton et al. 2015, arXiv:1503.02531; word level: Kim and Rush 2016, arXiv:1606.07947",
    make=_make,
    tasks=OF_CLASSES,
    instead=_INSTEAD,
)
