from __future__ import annotations

import functools
import random

import numpy as np
import pytest

from edgekit.errors import DataError
from edgekit.tasks import find_metric
from edgekit.tasks.metric import summarise
from edgekit.tasks.sequences import edit_distance

NO_FEEDS: dict[str, np.ndarray] = {}
LABELS = np.array([[1, 2, 3, -1], [4, 5, -1, -1], [6, 7, 8, 9]])


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("flaw", "lawn", 2), ("same", "same", 0), ("", "", 0)],
)
def test_published_distances(first: str, second: str, distance: int) -> None:
    assert edit_distance([*map(ord, first)], [*map(ord, second)]) == distance


def test_distances_against_the_definition() -> None:
    @functools.cache
    def by_definition(a: str, b: str) -> int:
        if not a or not b:
            return len(a) + len(b)
        return min(
            by_definition(a[1:], b) + 1, by_definition(a, b[1:]) + 1, by_definition(a[1:], b[1:]) + (a[0] != b[0])
        )

    draw = random.Random(0)
    for _ in range(100):
        a, b = ("".join(draw.choices("xyz", k=draw.randint(0, 6))) for _ in range(2))
        assert edit_distance([*map(ord, a)], [*map(ord, b)]) == by_definition(a, b)


def test_ids_that_a_model_gives() -> None:
    given = np.array([[1, 2, 3, -1, -1], [4, 9, 5, -1, -1], [6, 7, -1, -1, -1]])
    accuracy, distance = find_metric("sequence-accuracy"), find_metric("edit-distance")
    assert accuracy.score([given], LABELS, NO_FEEDS).tolist() == [1, 0, 0]
    scores = distance.score([given], LABELS, NO_FEEDS)
    assert scores.tolist() == [[0, 3], [1, 2], [2, 4]]
    assert summarise(distance, scores).value == pytest.approx(3 / 9)


def test_logits_beyond_the_end_do_not_count() -> None:
    logits = np.zeros((3, 4, 10), np.float32)
    np.put_along_axis(logits, np.maximum(LABELS, 0)[..., None], 1, axis=-1)
    logits[2, 0, 5] = 2
    assert find_metric("sequence-accuracy").score([logits], LABELS, NO_FEEDS).tolist() == [1, 1, 0]
    assert find_metric("edit-distance").score([logits], LABELS, NO_FEEDS)[:, 0].tolist() == [0, 0, 1]


@pytest.mark.parametrize("given", [np.zeros((3, 4, 2, 2)), np.zeros((2, 4), np.int64), np.zeros((3, 4))])
def test_what_is_no_sequence(given: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"^metric 'edit-distance' needs ids \(n, length\) or logits "):
        find_metric("edit-distance").score([given], LABELS, NO_FEEDS)
