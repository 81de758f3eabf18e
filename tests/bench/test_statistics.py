from __future__ import annotations

import math

import numpy as np
import pytest

from edgekit.bench.statistics import MIN_RUNS, drift, median_interval, paired_ratio, percentile, summarise


@pytest.mark.parametrize(("percent", "runs"), [(90, 44), (95, 90), (99, 459)])
def test_a_percentile_needs_enough_runs_for_99_percent_confidence(percent: int, runs: int) -> None:
    assert MIN_RUNS[percent] == runs
    assert 1 - (percent / 100) ** runs >= 0.99 > 1 - (percent / 100) ** (runs - 1)
    values = np.random.default_rng(0).exponential(size=runs)
    assert percentile(values, percent) == pytest.approx(np.percentile(values, percent))
    assert percentile(values[1:], percent) is None


def _binomial_tail(n: int, rank: int) -> float:
    return sum(math.comb(n, k) for k in range(rank)) / 2**n


@pytest.mark.parametrize("n", [6, 7, 20, 100, 999])
def test_the_medians_interval_is_the_narrowest_pair_of_order_statistics(n: int) -> None:
    found = median_interval(np.arange(1.0, n + 1))
    assert found is not None
    rank = int(found[0])
    assert found == (rank, n + 1 - rank)
    assert _binomial_tail(n, rank) <= 0.025 < _binomial_tail(n, rank + 1)


def test_below_six_values_there_is_no_interval() -> None:
    assert median_interval(np.arange(5.0)) is None


def test_the_interval_covers_the_median_in_95_of_100_samples() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(1000):
        interval = median_interval(rng.exponential(size=30))
        assert interval is not None
        covered += interval[0] <= math.log(2) <= interval[1]
    assert covered >= 940


def test_a_ratio_is_paired_inside_rounds_so_that_a_machine_that_slows_down_cancels_out() -> None:
    rng = np.random.default_rng(2)
    slow = np.linspace(1, 5, 40)
    before, after = slow * rng.normal(2.0, 0.01, 40), slow * rng.normal(1.0, 0.01, 40)
    ratio, interval = paired_ratio(before, after)
    assert ratio == pytest.approx(2.0, rel=0.01)
    assert interval is not None
    assert interval[0] < 2.0 < interval[1]
    assert interval[1] / interval[0] < 1.03


def test_few_rounds_give_a_ratio_without_an_interval() -> None:
    assert paired_ratio(np.full(7, 2.0), np.ones(7)) == (pytest.approx(2.0), None)


def test_summary_of_known_values() -> None:
    values = np.arange(1.0, 101.0)
    found = summarise(values, values)
    assert (found.p50, found.mean, found.minimum) == (50.5, 50.5, 1.0)
    assert found.p90 == pytest.approx(90.1)
    assert found.p99 is None
    assert found.ci95_p50 == (40.0, 61.0)  # Conover's table for n = 100
    assert found.as_dict()["ci95_p50"] == [40.0, 61.0]


def test_the_interval_always_holds_the_median() -> None:
    found = summarise(np.full(50, 3.0), np.full(8, 2.0))
    assert found.ci95_p50 == (2.0, 3.0)


def test_drift_is_told_from_noise() -> None:
    noise = np.random.default_rng(3).normal(1.0, 0.02, 90)
    assert drift(noise) is None
    assert drift(noise * np.linspace(1.0, 1.3, 90)) == pytest.approx(0.2, abs=0.03)
    assert drift(noise[:29]) is None
