"""Writing a sequence with a decoder, by the likeliest id each time or by a beam."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgekit.specs import Array
from edgekit.tasks.language import log_probabilities

NextLogits = Callable[[Array], Array]


@dataclass(frozen=True)
class Hypothesis:
    """A sequence and how likely it is.

    Attributes:
        ids: Without the id that begins; the id that ends is its last, where it was reached.
        log_probability: Sum over the ids, in nats.
        score: What sequences are compared by: the sum over the length to the power of the penalty.
    """

    ids: tuple[int, ...]
    log_probability: float
    score: float


def greedy_search(next_logits: NextLogits, *, begin: int, end: int, longest: int) -> Hypothesis:
    """The likeliest id each time; as `beam_search` with a beam of 1."""
    return beam_search(next_logits, begin=begin, end=end, longest=longest, width=1)[0]


def beam_search(
    next_logits: NextLogits, *, begin: int, end: int, longest: int, width: int = 4, penalty: float = 1.0
) -> list[Hypothesis]:
    """The best sequences that a beam finds, the best first.

    Args:
        next_logits: Sequences so far (k, t), int64, each beginning with `begin` -> logits of the next id,
            (k, vocabulary): the exported decoder around what the encoder gave.
        begin: The id that each sequence begins with.
        end: The id that ends one.
        longest: Most ids of an answer.
        width: Of the beam.
        penalty: Exponent of the length that sums are divided by; 0 favours short sequences, 1 takes the mean.

    Returns:
        At most `width` sequences.

    Source: Graves 2012, arXiv:1211.3711; the length: Wu et al. 2016, arXiv:1609.08144, section 7, without its constant.
    """
    alive = [Hypothesis((), 0.0, 0.0)]
    done: list[Hypothesis] = []
    for _ in range(longest):
        alive = _grown(alive, next_logits, begin, width, penalty)
        done += [h for h in alive if h.ids[-1] == end]
        alive = [h for h in alive if h.ids[-1] != end]
        if not alive or (len(done) >= width and _settled(done, alive, width, longest, penalty)):
            break
    return _best(done or alive, width)


def _grown(
    alive: list[Hypothesis], next_logits: NextLogits, begin: int, width: int, penalty: float
) -> list[Hypothesis]:
    """The best continuations of all sequences by one id."""
    so_far = np.array([[begin, *h.ids] for h in alive], dtype=np.int64)
    totals = log_probabilities(next_logits(so_far)) + np.array([[h.log_probability] for h in alive])
    best = np.argsort(-totals, axis=None, kind="stable")[:width]
    rows, ids = np.unravel_index(best, totals.shape)
    return [
        _hypothesis((*alive[row].ids, int(i)), float(totals[row, i]), penalty)
        for row, i in zip(rows.tolist(), ids.tolist(), strict=True)
    ]


def _hypothesis(ids: tuple[int, ...], total: float, penalty: float) -> Hypothesis:
    return Hypothesis(ids, total, total / float(len(ids)) ** penalty)


def _settled(done: list[Hypothesis], alive: list[Hypothesis], width: int, longest: int, penalty: float) -> bool:
    """Whether nothing that is alive can still come among the best: no further id raises a sum."""
    reachable: float = max(h.log_probability for h in alive) / float(longest) ** penalty
    return reachable <= _best(done, width)[-1].score


def _best(found: list[Hypothesis], width: int) -> list[Hypothesis]:
    return sorted(found, key=lambda h: -h.score)[:width]
