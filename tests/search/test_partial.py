"""Bisection for the fewest nodes in float."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.data.split import Split
from edgekit.search import QuantizeRequest
from edgekit.search.attempt import Attempt, Bench
from edgekit.search.candidates import Candidate, candidates
from edgekit.search.partial import MAX_EVALUATIONS, Ranking, fewest, growing, keep_in_float
from edgekit.search.proof import Judge, Quality
from edgekit.steps import StepStore
from tests.search.models import conv_net, images


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


def test_the_whole_chain_is_tried_with_the_counts_found_good_and_then_with_more() -> None:
    assert list(growing({2, 4}, 74)) == [2, 4, 8, 16, 32, 64]
    assert list(growing({3}, 5)) == [3, 5]
    assert list(growing({5}, 5)) == [5]


class _LossBehindTheFirstStep(Bench):
    """A search whose first step is good with one node in float, and whose whole chain is with two."""

    def quality_of(self, candidate: Candidate, excluded: frozenset[str], tag: str) -> Quality:
        found = super().quality_of(candidate, excluded, tag)
        return replace(found, drop=0.0 if excluded else 0.5)

    def attempt(self, candidate: Candidate, excluded: frozenset[str] = frozenset(), tag: str = "") -> Attempt:
        found = super().attempt(candidate, excluded, tag)
        return replace(found, outcome="good" if len(excluded) > 1 else "loses 0.5 of agreement")


def test_what_later_steps_cost_is_made_up_for_by_more_nodes_in_float(tmp_path: Path) -> None:
    model, calibration = conv_net(tmp_path / "model.onnx"), Split("calibration", {"x": images(16)})
    request = QuantizeRequest(model, tmp_path / "q.onnx", calibration=calibration, threads=1, seconds=0.05)
    judge = Judge(model, calibration=calibration, threads=1, seconds=0.05)
    bench = _LossBehindTheFirstStep(request, judge, StepStore(tmp_path / "work"), "key")
    static = candidates(request, is_language_model=False)[0]
    assert static.name == "static + weights"
    found = keep_in_float(bench, bench.attempt(static))
    assert found is not None
    assert found.good
    assert len(found.details["kept_in_float"]["nodes"]) == 2
