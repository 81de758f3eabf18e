"""Language modelling: the next token of a text.

The targets are the ids that go in, shifted by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import DataError
from edgekit.specs import TEXT_INPUTS, Array, Feeds
from edgekit.tasks.metric import Metric
from edgekit.tasks.task import Task, TrainingBatch

if TYPE_CHECKING:
    from torch import Tensor

_AT_ONCE = 1 << 22  # logits that are in memory in float64


def next_token_cross_entropy(outputs: Sequence[Tensor], batch: TrainingBatch) -> Tensor:
    """Mean cross-entropy of each token given those before it, in nats.

    Args:
        outputs: Logits, float (n, length, vocabulary).
        batch: Its first input is the ids, int64 (n, length).
    """
    from torch.nn import functional

    logits, ids = outputs[0][:, :-1].float(), batch.inputs[0][:, 1:]
    return functional.cross_entropy(logits.flatten(0, 1), ids.flatten(), label_smoothing=batch.label_smoothing)


def log_probabilities(logits: Array) -> Array:
    """The logarithm of the softmax over the last axis, in float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return np.asarray(shifted)


def _negative_log_likelihood(metric: str, outputs: Sequence[Array], feeds: Feeds) -> Array:
    """Of each token but the first, in nats: float64 (n, length - 1)."""
    logits, ids = _logits(metric, outputs), _ids(feeds)
    if logits.shape[:2] != ids.shape:
        raise DataError(
            f"metric {metric!r} needs logits for each of the ids {ids.shape}, got {logits.shape}; "
            "the ids must be the first input"
        )
    if ids.size and (ids.min() < 0 or ids.max() >= logits.shape[2]):
        raise DataError(
            f"ids must lie in 0..{logits.shape[2] - 1} for a vocabulary of {logits.shape[2]}, "
            f"got {ids.min()}..{ids.max()}; take the tokenizer.json that the model was trained with"
        )
    found = np.empty((len(ids), ids.shape[1] - 1))
    for start, stop in _chunks(logits):
        targets = ids[start:stop, 1:, None].astype(np.int64)
        known = log_probabilities(logits[start:stop, :-1])
        found[start:stop] = -np.take_along_axis(known, targets, axis=-1)[..., 0]
    return found


def _ids(feeds: Feeds) -> Array:
    """The ids: by name, or the first input of a model that calls them otherwise."""
    named = next((feeds[name] for name in TEXT_INPUTS["ids"] if name in feeds), None)
    return named if named is not None else next(iter(feeds.values()))


def _logits(metric: str, outputs: Sequence[Array]) -> Array:
    if outputs[0].ndim != 3:
        raise DataError(f"metric {metric!r} needs outputs of shape (n, length, vocabulary), got {outputs[0].shape}")
    return outputs[0]


def _chunks(logits: Array) -> list[tuple[int, int]]:
    """Ranges of samples whose logits fit into memory in float64."""
    step = max(1, _AT_ONCE // max(1, logits[:1].size))
    return [(start, min(start + step, len(logits))) for start in range(0, len(logits), step)]


def _next_token_nll(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    return np.asarray(_negative_log_likelihood("perplexity", outputs, feeds).mean(axis=1))


def _bits_and_characters(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    """Columns: bits that the predicted tokens cost, characters that they stand for."""
    bits = _negative_log_likelihood("bits-per-character", outputs, feeds).sum(axis=1) / np.log(2)
    if labels.shape != bits.shape:
        raise DataError(
            f"metric 'bits-per-character' needs labels of shape (n,), the number of characters that ids[1:] of each "
            f"sample stand for, got {labels.shape}; choose --metric perplexity"
        )
    return np.stack([bits, labels.astype(np.float64)], axis=1)


def bits_per_character(scores: Array) -> float:
    """All bits over all characters: the same text costs the same whatever the tokeniser is.

    Args:
        scores: float64 (n, 2): bits, characters.
    """
    bits, characters = scores.sum(axis=0)
    return float(bits / characters) if characters else float("nan")


def _same_token(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    """The share of positions at which the likeliest token is the original's. The labels are the original's logits."""
    logits = _compared("token-agreement", outputs, labels)
    return np.asarray((logits.argmax(axis=-1) == labels.argmax(axis=-1)).mean(axis=1))


def _divergence(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    """Kullback-Leibler divergence of the model's next token from the original's, in nats, mean over the positions."""
    logits = _compared("kl", outputs, labels)
    found = np.empty(len(logits))
    for start, stop in _chunks(logits):
        wanted, got = log_probabilities(labels[start:stop]), log_probabilities(logits[start:stop])
        found[start:stop] = (np.exp(wanted) * (wanted - got)).sum(axis=-1).mean(axis=1)
    return found


def _compared(metric: str, outputs: Sequence[Array], labels: Array) -> Array:
    logits = _logits(metric, outputs)
    if logits.shape != labels.shape:
        raise DataError(
            f"metric {metric!r} compares logits with those of the original, got {logits.shape} for {labels.shape}; "
            "it is a drift that `edgekit run` reports"
        )
    return logits


PERPLEXITY = Metric(
    "perplexity", False, "per token", _next_token_nll, needs_labels=False, reduce=lambda mean: float(np.exp(mean))
)
BITS_PER_CHARACTER = Metric("bits-per-character", False, "bits", _bits_and_characters, over=bits_per_character)
TOKEN_AGREEMENT = Metric("token-agreement", True, "", _same_token)
KL = Metric("kl", False, "nats", _divergence)

LANGUAGE_MODELLING = Task(
    name="language-modelling",
    summary="the next token of a text",
    metric="bits-per-character",
    also=("perplexity",),
    loss=next_token_cross_entropy,
    outputs=("logits",),
    drift="token-agreement",
    further_drift=("kl",),
    labelled=False,
)
