"""Sequence to sequence: a text out of another. A model gets the right answer so far, and tells the next id of it.

Inputs are source, its mask, and the target behind the id that begins one; labels are the target with the id that ends
it, int64 (n, target length), filled up with -1. How good the model is alone, where each id that it wrote is all it has,
is told by metrics of what `write_greedily` gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgekit.errors import DataError
from edgekit.specs import Array, Feeds
from edgekit.tasks.metric import Metric
from edgekit.tasks.sequences import EDIT_DISTANCE, NOTHING, SEQUENCE_ACCURACY
from edgekit.tasks.steps import count_right_steps, share_of_right_steps, step_cross_entropy
from edgekit.tasks.task import Task


def _right_tokens(outputs: Sequence[Array], labels: Array, feeds: Feeds) -> Array:
    """Columns: tokens that are right given those before, tokens."""
    return count_right_steps("token-accuracy", outputs, labels)


def write_greedily(run: Callable[[Feeds], list[Array]], feeds: Feeds, labels: Array) -> tuple[Array, Array]:
    """What a model writes itself, the likeliest id each time, and what is right.

    Args:
        run: The model: source, mask and target in, logits (n, target length, vocabulary) out.
        feeds: As for training; of the targets only the ids that begin are taken.
        labels: int64 (n, longest), each row ending with the id that ends a text, then -1.

    Returns:
        int64 (n, longest) twice, without the ids that end, filled up with -1; nothing longer than the longest of the
        right ones is written.

    Raises:
        DataError: if the feeds are others, or a row of labels is empty.
    """
    begin, end = _begin_and_end(feeds, labels)
    longest = labels.shape[1]
    written = np.full((len(labels), 1 + longest), NOTHING, dtype=np.int64)
    written[:, 0] = begin
    going = np.arange(len(labels))
    for step in range(longest):
        logits = run({**{k: v[going] for k, v in feeds.items()}, "target": written[going, : step + 1]})[0]
        ids = logits[:, -1].argmax(axis=-1)
        written[going, step + 1] = np.where(ids == end, NOTHING, ids)
        going = going[ids != end]
        if not len(going):
            break
    return written[:, 1:], np.where(labels == end, NOTHING, labels)


def _begin_and_end(feeds: Feeds, labels: Array) -> tuple[Array, int]:
    """The id that begins each text, and the one that ends them all."""
    target = feeds.get("target")
    if target is None or target.ndim != 2 or target.shape != labels.shape:
        shape = "none" if target is None else str(target.shape)
        raise DataError(
            f"a model that writes needs an input 'target' of the labels' shape {labels.shape}, got {shape}; give pairs "
            "of texts as data"
        )
    counts = (labels != NOTHING).sum(axis=1)
    last = np.take_along_axis(labels, np.maximum(counts - 1, 0)[:, None], axis=1)[:, 0]
    if not counts.all() or len(np.unique(last)) != 1:
        raise DataError(
            f"labels of pairs must end with one id, the same in each row, and be filled up with {NOTHING}; they end "
            f"with {', '.join(map(str, np.unique(last)[:5]))}"
        )
    return target[:, 0], int(last[0])


TOKEN_ACCURACY = Metric("token-accuracy", True, "", _right_tokens, over=share_of_right_steps)

SEQUENCE_TO_SEQUENCE = Task(
    name="sequence-to-sequence",
    summary="a text out of another",
    metric=TOKEN_ACCURACY.name,
    loss=step_cross_entropy,
    outputs=("logits",),
    decode=write_greedily,
    decoded=(SEQUENCE_ACCURACY.name, EDIT_DISTANCE.name),
)
