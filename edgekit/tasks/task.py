"""A task: what the output means, how it is trained, how good it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgekit.specs import Array, Feeds

if TYPE_CHECKING:
    from torch import Tensor

# (runs the model, feeds, labels) -> what it writes itself, and what is right, as labels of the same kind.
Decode = Callable[[Callable[[Feeds], list[Array]], Feeds, Array], tuple[Array, Array]]


@dataclass(frozen=True)
class TrainingBatch:
    """What a loss sees of a batch beside the model's outputs.

    Attributes:
        inputs: What went into the model, in the order of its inputs.
        labels: (n, ...); None where the data has none.
        label_smoothing: Share of the target that is spread over all classes (Szegedy et al. 2015, arXiv:1512.00567).
    """

    inputs: tuple[Tensor, ...]
    labels: Tensor | None
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class Task:
    """One kind of problem.

    Attributes:
        name: Name in recipes.
        summary: One line for `edgekit list`.
        metric: Name of the metric that decides (see `tasks.metrics`).
        loss: (outputs of the model, batch) -> scalar loss, in torch.
        outputs: Names of the exported graph's outputs.
        also: Names of further metrics that are reported.
        drift: Name of the metric that compares outputs with those of the uncompressed model; "" for none.
        baseline: What the model must beat: "components" for PCA of the same width, "untrained" for itself before
            training; None for nothing.
        further_drift: Names of more of them, which are told beside it.
        labelled: Whether its data must have labels.
        by_class: Whether the metric is told for each class too.
        decode: How a model is asked that writes its answer bit by bit; None where one run is the answer.
        decoded: Names of further metrics that are of what `decode` gives, and no one run's; of the test split only.
    """

    name: str
    summary: str
    metric: str
    loss: Callable[[Sequence[Tensor], TrainingBatch], Tensor]
    outputs: tuple[str, ...]
    also: tuple[str, ...] = ()
    drift: str = ""
    baseline: Literal["components", "untrained"] | None = None
    further_drift: tuple[str, ...] = ()
    labelled: bool = True
    by_class: bool = False
    decode: Decode | None = None
    decoded: tuple[str, ...] = ()
