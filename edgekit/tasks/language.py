"""Language: the next token of a text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.errors import DataError
from edgekit.specs import Array, Feeds
from edgekit.tasks.metric import Metric


def _next_token_nll(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    logits, ids = outputs[0], next(iter(feeds.values()))
    if logits.ndim != 3:
        raise DataError(f"metric 'perplexity' needs outputs of shape (n, length, vocabulary), got {logits.shape}")
    shifted = logits[:, :-1].astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    targets = ids[:, 1:, None].astype(np.int64)
    chosen = np.take_along_axis(shifted, targets, axis=-1)[..., 0]
    nll: Array = np.log(np.exp(shifted).sum(axis=-1)) - chosen
    return np.asarray(nll.mean(axis=1))


PERPLEXITY = Metric(
    "perplexity", False, "per token", _next_token_nll, needs_labels=False, reduce=lambda mean: float(np.exp(mean))
)
