from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgekit.bench import Samples, Speedup, Verdict, compare_latency, speedup, verdict
from edgekit.bench.compare import _settled, affordable_visits, runner, verdicts_settled
from edgekit.bench.measure import Recorder
from edgekit.errors import ModelError, ProviderError
from edgekit.ort import Session

from .conftest import Maker


def _samples(by_round: list[float], runs: int = 3) -> Samples:
    return Samples(np.repeat(by_round, runs), np.repeat(np.arange(len(by_round)), runs))


@pytest.mark.parametrize(
    ("ratio", "interval", "expected"),
    [
        (1.5, (1.45, 1.55), Verdict.FASTER),
        (0.7, (0.68, 0.72), Verdict.SLOWER),
        (1.001, (0.99, 1.01), Verdict.NO_DIFFERENCE),
        (1.02, (1.01, 1.03), Verdict.NO_DIFFERENCE),
        (1.1, (0.9, 1.3), Verdict.TOO_NOISY),
        (1.5, None, Verdict.TOO_NOISY),
    ],
)
def test_verdicts(ratio: float, interval: tuple[float, float] | None, expected: Verdict) -> None:
    assert verdict(Speedup(ratio, interval, 20)) is expected


def test_a_speedup_pairs_the_rounds_that_both_took_part_in() -> None:
    before, after = _samples([4.0] * 10), _samples([2.0] * 20)
    found = speedup(before, after)
    assert found.ratio == pytest.approx(2.0)
    assert found.rounds == 10
    assert found.ci95 == (pytest.approx(2.0), pytest.approx(2.0))


def test_without_shared_rounds_there_is_a_ratio_and_no_interval() -> None:
    late = Samples(np.ones(3), np.array([7, 8, 9]))
    assert speedup(Samples(np.full(3, 3.0), np.array([0, 1, 2])), late) == Speedup(3.0, None, 0)


def test_twice_the_work_is_slower(chain: Maker) -> None:
    before, after = chain(128, 4, name="before"), chain(128, 12, name="after")
    found = compare_latency(before, after, threads=1, seconds=0.2)
    assert found.verdict is Verdict.SLOWER
    assert found.speedup.ratio < 0.7
    assert found.before_ms < found.after_ms
    json.dumps(found.as_dict())
    assert {"before", "after", "speedup", "ci95"} <= found.as_dict().keys()
    assert (found.provider, found.threads) == ("cpu", 1)


def test_a_model_against_itself_has_no_winner(chain: Maker) -> None:
    model = chain(32, 10)
    found = compare_latency(model, model, {"x": np.ones((2, 32), np.float32)}, threads=1, seconds=0.3)
    assert found.verdict not in (Verdict.FASTER, Verdict.SLOWER)
    assert found.speedup.ratio == pytest.approx(1.0, abs=0.1)


def test_a_model_that_does_not_take_the_feeds_is_refused(chain: Maker) -> None:
    model = chain(16)
    with pytest.raises(ModelError, match="failed to run"):
        compare_latency(model, model, {"x": np.ones((2, 9), np.float32)}, threads=1)
    with pytest.raises(ProviderError, match="did you mean 'cuda'"):
        compare_latency(model, model, provider="cudda")


def test_a_runner_gives_the_sessions_outputs(chain: Maker) -> None:
    session = Session(chain(16, 2), threads=1)
    feeds = {"x": np.ones((3, 16), np.float32)}
    np.testing.assert_array_equal(runner(session, feeds)()[0], session.run(feeds)[0])  # type: ignore[index]


@pytest.mark.parametrize(
    ("interval", "settled"),
    [((0.99, 1.02), True), ((0.95, 1.05), False), ((1.3, 1.45), True), ((1.01, 1.12), False), ((1.5, 2.5), False)],
)
def test_measuring_goes_on_until_the_verdict_is_settled(interval: tuple[float, float], settled: bool) -> None:
    assert _settled(Speedup(sum(interval) / 2, interval, 20)) is settled


def test_without_an_interval_nothing_is_settled() -> None:
    assert not _settled(Speedup(2.0, None, 3))


@pytest.mark.parametrize(("preparing_s", "visits"), [(0.01, 8), (0.25, 2), (3.0, 1), (0.0, 8)])
def test_sessions_are_made_anew_as_often_as_that_is_cheap(preparing_s: float, visits: int) -> None:
    assert affordable_visits(1.0, preparing_s) == visits


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot load"):
        compare_latency(tmp_path / "a.onnx", tmp_path / "b.onnx")


def test_verdicts_are_settled_when_each_against_the_first_of_its_group_is() -> None:
    def recorder(spread: float) -> Recorder:
        ns = [int(1e6 * (1 + spread * (i % 2))) for i in range(20)]
        return Recorder(taken=[[t] for t in ns], at_round=list(range(20)))

    steady = {"0": recorder(0.0), "1": recorder(0.0), "2": recorder(0.9)}
    assert verdicts_settled([["0", "1"]], steady)
    assert not verdicts_settled([["0", "1", "2"]], steady)
    assert not verdicts_settled([["0", "1"], ["1", "2"]], steady)
    assert verdicts_settled([["0"], ["2"]], steady)
