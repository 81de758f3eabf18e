"""Pretraining of encoders: which tokens were masked, and whether a second text follows the first.

Labels are int64 (n, 1 + length): whether it follows, then the token that stood at each place, or -100 where none was
masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import DataError
from edgekit.specs import Array, Feeds
from edgekit.tasks.metric import Metric
from edgekit.tasks.task import Task, TrainingBatch

if TYPE_CHECKING:
    from torch import Tensor

NOT_MASKED = -100


def pretraining_loss(outputs: Sequence[Tensor], batch: TrainingBatch) -> Tensor:
    """Mean cross-entropy of the masked tokens, and that of the next sentence.

    Args:
        outputs: Logits float (n, length, vocabulary) and (n, 2).
        batch: Labels int64 (n, 1 + length), as above.

    Source: Devlin et al. 2018, arXiv:1810.04805, section 3.1.
    """
    from torch.nn import functional

    if batch.labels is None:
        raise DataError("pretraining needs labels; they are made with the data, such as `data: fortunes`")
    masked = batch.labels[:, 1:] != NOT_MASKED
    tokens = functional.cross_entropy(outputs[0][masked].float(), batch.labels[:, 1:][masked])
    return tokens + functional.cross_entropy(outputs[1].float(), batch.labels[:, 0])


def _masked(metric: str, outputs: Sequence[Array], labels: Array) -> tuple[Array, Array, Array]:
    """Logits, targets int64 (n, length), and where they count."""
    logits = outputs[0]
    if logits.ndim != 3 or labels.shape != (len(logits), 1 + logits.shape[1]):
        raise DataError(
            f"metric {metric!r} needs logits (n, length, vocabulary) and labels (n, 1 + length), got {logits.shape} "
            f"and {labels.shape}; it is for models that were trained on masked tokens"
        )
    targets = labels[:, 1:]
    if targets.max(initial=0) >= logits.shape[2]:
        raise DataError(
            f"ids must lie in 0..{logits.shape[2] - 1} for a vocabulary of {logits.shape[2]}, got {targets.max()}; "
            "take the tokenizer.json that the model was trained with"
        )
    return logits, targets, targets != NOT_MASKED


def _masked_accuracy(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    """Columns: masked tokens that are right, masked tokens."""
    logits, targets, masked = _masked("masked-accuracy", outputs, labels)
    right = (logits.argmax(axis=-1) == targets) & masked
    return np.stack([right.sum(axis=1), masked.sum(axis=1)], axis=1).astype(np.float64)


def ratio(scores: Array) -> float:
    """The first column's sum over the second's: float64 (n, 2) -> a share; NaN where the second is 0."""
    part, whole = scores.sum(axis=0)
    return float(part / whole) if whole else float("nan")


def _targets(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    return _masked("unigram-accuracy", outputs, labels)[1].astype(np.float64)


def commonest_share(scores: Array) -> float:
    """How often the commonest masked token is masked: what is reached by answering it always.

    Args:
        scores: Targets, float64 (n, length); -100 where there is none.
    """
    found = scores[scores != NOT_MASKED].astype(np.int64)
    return float(np.bincount(found).max() / len(found)) if len(found) else float("nan")


def _follows(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    if len(outputs) < 2 or outputs[1].ndim != 2 or labels.ndim != 2:
        raise DataError(
            "metric 'next-sentence-accuracy' needs a second output (n, 2) and labels (n, 1 + length); it is for models "
            "that were trained on pairs of texts"
        )
    return np.asarray(outputs[1].argmax(axis=1) == labels[:, 0], np.float64)


MASKED_ACCURACY = Metric("masked-accuracy", True, "", _masked_accuracy, over=ratio)
UNIGRAM_ACCURACY = Metric("unigram-accuracy", True, "", _targets, over=commonest_share)
NEXT_SENTENCE = Metric("next-sentence-accuracy", True, "", _follows, binary=True)

MASKED_LANGUAGE = Task(
    name="masked-language-modelling",
    summary="masked tokens and next sentences: what encoders of text are trained on first",
    metric="masked-accuracy",
    also=("unigram-accuracy", "next-sentence-accuracy"),
    loss=pretraining_loss,
    outputs=("token_logits", "next_logits"),
)
