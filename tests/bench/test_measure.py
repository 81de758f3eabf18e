from __future__ import annotations

import gc
import time

import numpy as np
import pytest

from edgekit.bench import measure
from edgekit.bench.measure import Plan, Recorder, Run, interleave, interleave_afresh, warm_up
from edgekit.errors import ModelError

QUICK = Plan(min_seconds=0.02, min_runs=5, warmup_seconds=0.01)


def test_things_are_measured_in_turns_and_every_second_round_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_STEADY_TURN_NS", 0)  # one run a turn
    order: list[str] = []

    def run(name: str) -> None:
        order.append(name)
        time.sleep(0.006)

    samples = interleave({"a": lambda: run("a"), "b": lambda: run("b")}, QUICK)
    recorded = order[-2 * samples["a"].n :]
    assert "".join(recorded).startswith(("abba", "baab"))
    assert samples["a"].n == samples["b"].n >= 8
    assert samples["a"].rounds.tolist() == list(range(samples["a"].n))


def test_the_time_of_a_run_is_what_the_clock_says() -> None:
    samples = interleave({"sleep": lambda: time.sleep(0.004)}, QUICK)["sleep"]
    assert 4.0 <= samples.ms.min() < 8.0
    assert samples.medians_by_round().keys() == set(samples.rounds.tolist())


def test_both_least_time_and_least_runs_are_reached() -> None:
    fast = interleave({"m": lambda: None}, Plan(min_seconds=0.05, min_runs=5))["m"]
    assert fast.ms.sum() >= 50
    slow = interleave({"m": lambda: time.sleep(0.003)}, Plan(min_seconds=0.001, min_runs=30, warmup_seconds=0))["m"]
    assert slow.n >= 30


def test_a_slow_thing_stops_when_its_time_is_up() -> None:
    plan = Plan(min_seconds=0.01, min_runs=1000, max_seconds=0.05, warmup_seconds=0)
    assert interleave({"m": lambda: time.sleep(0.01)}, plan)["m"].n < 10


def test_what_was_recorded_outlives_an_interruption() -> None:
    left = 60

    def run() -> None:
        nonlocal left
        left -= 1
        if not left:
            raise KeyboardInterrupt
        time.sleep(0.001)

    recorders: dict[str, Recorder] = {}
    with pytest.raises(KeyboardInterrupt):
        interleave({"m": run}, Plan(min_seconds=10, warmup_seconds=0.01), recorders=recorders)
    samples = recorders["m"].samples()
    assert samples.n > 0
    assert len(samples.rounds) == samples.n
    assert gc.isenabled()


def test_a_run_that_fails_is_a_model_error() -> None:
    def run() -> None:
        raise RuntimeError("no kernel for that")

    with pytest.raises(ModelError, match="failed to run: no kernel for that"):
        interleave({"m": run}, QUICK)


def test_the_garbage_collector_is_off_while_runs_are_recorded_only() -> None:
    seen: list[bool] = []
    interleave({"m": lambda: seen.append(gc.isenabled())}, QUICK)
    assert seen[-1] is False
    assert gc.isenabled()


def test_visits_number_their_rounds_on_and_make_things_in_both_orders() -> None:
    orders: list[bool] = []

    def prepare(backwards: bool) -> dict[str, object]:
        orders.append(backwards)
        return {"m": lambda: time.sleep(0.001)}

    recorders: dict[str, Recorder] = {}
    interleave_afresh(prepare, Plan(min_seconds=0.04, min_runs=8), visits=4, recorders=recorders)  # type: ignore[arg-type]
    samples = recorders["m"].samples()
    assert orders == [False, True, False, True]
    assert np.unique(samples.rounds).tolist() == list(range(samples.rounds[-1] + 1))
    assert samples.ms.sum() >= 40


def test_warm_up_ends_when_runs_are_stable_or_the_time_is_up() -> None:
    times = iter([0.02, 0.01, *[0.002] * 1000])
    assert 2e6 <= warm_up(lambda: time.sleep(next(times)), 0.3) < 9e6
    calls: list[int] = []
    warm_up(lambda: calls.append(1), 0.0)
    assert len(calls) == 1


@pytest.mark.parametrize(("answers", "visits"), [([True], 2), ([False, False, True], 4), ([False] * 99, 8)])
def test_visits_follow_until_it_is_settled_up_to_four_times(answers: list[bool], visits: int) -> None:
    made: list[bool] = []

    def prepare(backwards: bool) -> dict[str, Run]:
        made.append(backwards)
        return {"m": lambda: time.sleep(0.001)}

    said = iter(answers)
    plan = Plan(min_seconds=0.01, min_runs=8, warmup_seconds=0.0, min_rounds=1)
    interleave_afresh(prepare, plan, visits=2, recorders={}, settled=lambda: next(said))
    assert len(made) == visits
