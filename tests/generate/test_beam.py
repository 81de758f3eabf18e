from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgekit.generate.beam import Hypothesis, beam_search, greedy_search
from edgekit.specs import Array

BEGIN, END, IDS = 0, 1, 5
RNG = np.random.default_rng(3)
TABLE = RNG.standard_normal((IDS, IDS)) * 2  # logits of the next id after each id


def markov(so_far: Array) -> Array:
    assert so_far.dtype == np.int64
    assert (so_far[:, 0] == BEGIN).all()
    return np.asarray(TABLE[so_far[:, -1]])


def log_probability(ids: tuple[int, ...]) -> float:
    known = TABLE - np.log(np.exp(TABLE).sum(axis=1, keepdims=True))
    return float(sum(known[a, b] for a, b in itertools.pairwise((BEGIN, *ids))))


def every_answer(longest: int) -> list[tuple[int, ...]]:
    inner = [i for i in range(IDS) if i != END]
    return [(*part, END) for n in range(longest) for part in itertools.product(inner, repeat=n)]


def test_greedy_takes_the_likeliest_each_time() -> None:
    found, ids = greedy_search(markov, begin=BEGIN, end=END, longest=6), [BEGIN]
    while len(ids) <= 6 and ids[-1] != END:
        ids.append(int(TABLE[ids[-1]].argmax()))
    assert found.ids == tuple(ids[1:])
    assert found.log_probability == pytest.approx(log_probability(found.ids))


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0])
def test_a_beam_as_wide_as_all_sequences_finds_the_best(penalty: float) -> None:
    wanted = max(every_answer(4), key=lambda ids: log_probability(ids) / len(ids) ** penalty)
    found = beam_search(markov, begin=BEGIN, end=END, longest=4, width=800, penalty=penalty)
    assert found[0].ids == wanted
    assert found[0].score == pytest.approx(log_probability(wanted) / len(wanted) ** penalty)
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


def test_a_beam_does_not_fall_for_a_good_beginning() -> None:
    """After the begin 3 has 0.6 and 4 has 0.4; after 3 nothing is sure, and 4 ends for certain."""
    table = np.full((IDS, IDS), 1e-9)
    table[BEGIN, [3, 4]] = 0.6, 0.4
    table[3, [END, 2, 3]] = 0.4, 0.3, 0.3
    table[2, END] = table[4, END] = 1.0

    def path(so_far: Array) -> Array:
        return np.asarray(np.log(table[so_far[:, -1]]))

    options = {"begin": BEGIN, "end": END, "longest": 6}
    assert greedy_search(path, **options).ids == (3, END)
    best = beam_search(path, **options, width=2, penalty=0.0)[0]
    assert best.ids == (4, END)
    assert np.exp(best.log_probability) == pytest.approx(0.4, abs=1e-6)


def test_a_sequence_that_never_ends_is_cut() -> None:
    def never(so_far: Array) -> Array:
        logits = np.zeros((len(so_far), IDS))
        logits[:, END] = -50
        logits[:, 3] = 1
        return logits

    found = beam_search(never, begin=BEGIN, end=END, longest=3, width=2)
    assert found[0].ids == (3, 3, 3)
    assert len(found) == 2
    assert isinstance(found[0], Hypothesis)
