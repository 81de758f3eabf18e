"""What a training makes smaller: the loss of the task, or what compression puts in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from edgekit.training.augment import Mixture
from edgekit.training.seen import Seen, Spot

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class LearningBatch:
    """What an objective knows of a batch beside what the model gave for it.

    Attributes:
        inputs: What went into the model, by name in the order of its inputs.
        stored: The same before any of it was changed at random.
        mixed: The labels.
        samples: int64 (n,): where they lie in the training split.
        task_loss: Gives the task's loss of this batch, a scalar.
    """

    inputs: Mapping[str, Tensor]
    stored: Mapping[str, Tensor]
    mixed: Mixture
    samples: Tensor
    task_loss: Callable[[], Tensor]


class Objective(nn.Module):
    """The task's loss, and nothing else. Others replace `forward`; their own parameters are trained along.

    Attributes:
        spots: Of the model in training that `look` keeps.
    """

    spots: tuple[Spot, ...] = ()

    def look(self, module: nn.Module, inputs: Sequence[Tensor]) -> Seen:
        """Run the model in training."""
        return look(module, inputs, self.spots)

    def forward(self, seen: Seen, batch: LearningBatch) -> Tensor:
        """The scalar loss of a batch."""
        return batch.task_loss()


def outputs_of(answer: Any) -> list[Tensor]:
    """What a module gave, as a list."""
    return list(answer) if isinstance(answer, (tuple, list)) else [answer]


def look(module: nn.Module, inputs: Sequence[Tensor], spots: Sequence[Spot] = ()) -> Seen:
    """Run a module, and keep what passes some places in it.

    Args:
        module: Any.
        inputs: In its order.
        spots: Places in it.
    """
    caught: dict[Spot, Tensor] = {}
    with _watching(module, spots, caught):
        answer = module(*inputs)
    return Seen(outputs_of(answer), caught)


@contextmanager
def _watching(module: nn.Module, spots: Sequence[Spot], caught: dict[Spot, Tensor]) -> Iterator[None]:
    with ExitStack() as stack:
        for spot in spots:
            handle = _hook(module.get_submodule(spot.layer), spot, caught)
            stack.callback(handle.remove)
        yield


def _hook(layer: nn.Module, spot: Spot, caught: dict[Spot, Tensor]) -> Any:
    def entered(layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        caught[spot] = next(iter((*inputs, *named.values())))

    def left(layer: nn.Module, inputs: tuple[Any, ...], answer: Any) -> None:
        caught[spot] = outputs_of(answer)[0]

    if spot.entering:
        return layer.register_forward_pre_hook(entered, with_kwargs=True)
    return layer.register_forward_hook(left)
