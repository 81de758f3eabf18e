"""What happens in a training beside what its configuration says; compression brings it along."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgekit.data import DataSet
from edgekit.files import digest
from edgekit.training.checkpoint import TrainedModel
from edgekit.training.config import TrainConfig

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from edgekit.training.objective import Objective


def _none(model: TrainedModel) -> Sequence[Any]:
    return ()


def _of_the_task(model: TrainedModel, data: DataSet, config: TrainConfig) -> Objective:
    from edgekit.training.objective import Objective

    return Objective()


@dataclass(frozen=True)
class Extras:
    """Additions to a training.

    Attributes:
        key: JSON that changes with everything of them that changes the weights; None for nothing.
        callbacks: (model that is trained) -> Lightning callbacks. What they have to remember when an interrupted
            training goes on is in their `state_dict`.
        objective: (model that is trained, data, configuration) -> what is made smaller; the task's loss by default.
    """

    key: Any = None
    callbacks: Callable[[TrainedModel], Sequence[pl.Callback]] = _none
    objective: Callable[[TrainedModel, DataSet, TrainConfig], Objective] = _of_the_task

    def keyed(self, key: str) -> str:
        """A training's key with that of the additions."""
        return key if self.key is None else digest([key, self.key])


NOTHING = Extras()
SPARSITY = "sparsity"  # in the edits of a card: the pattern of zeros that a pruned model's weights have


def holding_zeros(model: TrainedModel, extras: Extras = NOTHING) -> Extras:
    """Additions that also hold the zeros of a pruned model, which training would fill again.

    Args:
        model: As the training starts; what its card does not call sparse is left alone.
        extras: That there are already.
    """
    pattern = model.card.edits.get(SPARSITY)
    masks = {n: p.detach() != 0 for n, p in model.module.named_parameters() if p.ndim > 1} if pattern else {}
    if all(bool(mask.all()) for mask in masks.values()):
        return extras

    def callbacks(trained: TrainedModel) -> Sequence[pl.Callback]:
        from edgekit.training.masks import HoldMasks

        return [*extras.callbacks(trained), HoldMasks(masks)]

    return replace(extras, key=[extras.key, SPARSITY, pattern], callbacks=callbacks)
