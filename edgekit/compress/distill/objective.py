"""What a student makes smaller: how far it is from its teacher, and the loss of the labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from edgekit.compress.distill.losses import Term
from edgekit.training.objective import LearningBatch, Objective
from edgekit.training.seen import Seen

Ask = Callable[[LearningBatch], Seen]


class Distillation(Objective):
    """The sum of the teacher's losses, each times its weight, and a share of the labels' loss.

    Args:
        terms: Weight and loss.
        share: Of the task's loss; 0 where labels are not looked at.
        ask: Gives what the teacher says of a batch.
    """

    def __init__(self, terms: Sequence[tuple[float, Term]], share: float, ask: Ask) -> None:
        super().__init__()
        self.terms, self.share, self.ask = list(terms), share, ask
        self.learnt = nn.ModuleList(term.learnt for _, term in terms if term.learnt is not None)
        self.spots = tuple(dict.fromkeys(spot for _, term in terms for spot in term.student))

    def forward(self, seen: Seen, batch: LearningBatch) -> Tensor:
        """The scalar loss; in full precision also where the models compute in less."""
        theirs = _in_full(self.ask(batch))
        with torch.autocast(seen.outputs[0].device.type, enabled=False):
            ours = _in_full(seen)
            parts = [weight * term.compare(ours, theirs, batch) for weight, term in self.terms if weight]
        if self.share:
            parts.append(self.share * batch.task_loss())
        return sum(parts[1:], parts[0])


def _in_full(seen: Seen) -> Seen:
    return Seen([o.float() for o in seen.outputs], {spot: x.float() for spot, x in seen.spots.items()})
