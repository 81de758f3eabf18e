"""A task: what the output means, how it is trained, how good it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Task:
    """One kind of problem.

    Attributes:
        name: Name in recipes.
        summary: One line for `edgekit list`.
        metric: Name of the metric that decides (see `tasks.metrics`).
        loss: (outputs of the model, labels) -> scalar loss, in torch.
        output: Name of the exported graph's output.
    """

    name: str
    summary: str
    metric: str
    loss: Callable[[Tensor, Tensor], Tensor]
    output: str
