"""Bisection for the fewest nodes in float."""

from __future__ import annotations

import pytest

from edgekit.search.partial import MAX_EVALUATIONS, Ranking, fewest


@pytest.mark.parametrize("needed", [1, 2, 3, 7, 50, 99, 100])
def test_finds_the_smallest_count_of_a_hundred(needed: int) -> None:
    asked: list[int] = []

    def meets(count: int) -> bool:
        asked.append(count)
        return count >= needed

    assert fewest(100, meets) == needed
    assert len(asked) <= MAX_EVALUATIONS <= 15
    assert len(set(asked)) == len(asked), "no count is evaluated twice"


def test_says_none_when_all_in_float_is_not_enough() -> None:
    assert fewest(100, lambda count: False) is None


def test_says_none_without_nodes() -> None:
    assert fewest(0, lambda count: True) is None


def test_gives_only_counts_that_were_seen_to_be_good() -> None:
    good = {4, 7, 8}
    found = fewest(8, lambda count: count in good)
    assert found in good


def test_stops_at_the_budget() -> None:
    asked: list[int] = []

    def meets(count: int) -> bool:
        asked.append(count)
        return count >= 3000

    assert fewest(4000, meets, budget=15) >= 3000  # type: ignore[operator]
    assert len(asked) == 15


def test_ranking_gives_the_worst_first() -> None:
    ranking = Ranking((("a", 0.5), ("b", 0.1), ("c", 0.0)))
    assert ranking.first(2) == {"a", "b"}
    assert ranking.first(9) == {"a", "b", "c"}
