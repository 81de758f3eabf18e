"""What happens in a training beside what its configuration says; compression brings it along."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.files import digest
from edgekit.training.checkpoint import TrainedModel

if TYPE_CHECKING:
    import lightning.pytorch as pl


def _none(model: TrainedModel) -> Sequence[Any]:
    return ()


@dataclass(frozen=True)
class Extras:
    """Additions to a training.

    Attributes:
        key: JSON that changes with everything of them that changes the weights; None for nothing.
        callbacks: (model that is trained) -> Lightning callbacks. What they have to remember when an interrupted
            training goes on is in their `state_dict`.
    """

    key: Any = None
    callbacks: Callable[[TrainedModel], Sequence[pl.Callback]] = _none

    def keyed(self, key: str) -> str:
        """A training's key with that of the additions."""
        return key if self.key is None else digest([key, self.key])


NOTHING = Extras()
