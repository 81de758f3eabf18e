from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest

from edgekit.bench import BenchRequest, bench_models, compare_rows
from edgekit.bench.measure import Plan, interleave
from edgekit.bench.streams import Streams
from edgekit.errors import ModelError

from .conftest import Maker

QUICK = BenchRequest(min_seconds=0.1, min_runs=10, warmup_seconds=0.02, threads=1, guard=False)
PLAN = Plan(min_seconds=0.3, min_runs=10, warmup_seconds=0.01, min_rounds=3)


def _quick(**changes: object) -> BenchRequest:
    return BenchRequest(**{**vars(QUICK), **changes})


def test_streams_overlap_and_each_keeps_its_own_latency() -> None:
    meeting = threading.Barrier(4)  # which nobody passes before all four are there
    load = Streams([lambda: (meeting.wait(timeout=60), time.sleep(0.01))] * 4).load(0)
    latencies = np.array(load.taken_ns) / 1e6
    assert len(latencies) == 4
    assert latencies.min() >= 10
    assert load.runs_per_s == pytest.approx(sum(1000 / latencies))
    assert load.wall_ns / 1e6 >= latencies.max()


def test_a_run_longer_than_the_turn_is_finished_and_counted() -> None:
    load = Streams([lambda: time.sleep(0.05)] * 2).load(0.001)
    assert len(load.taken_ns) == 2
    assert load.runs_per_s == pytest.approx(sum(1e9 / np.array(load.taken_ns)))
    assert load.runs_per_s <= 40


def test_streams_are_measured_in_turns_with_what_runs_alone() -> None:
    streams = Streams([lambda: time.sleep(0.005)] * 3)
    found = interleave({"alone": lambda: time.sleep(0.005), "three": streams}, PLAN)
    assert found["alone"].runs_per_s.size == 0
    three = found["three"]
    assert len(three.runs_per_s) == len(three.medians_by_round()) >= 3
    assert np.median(three.runs_per_s) == pytest.approx(3000 / three.ms.mean(), rel=0.1)


def test_a_stream_that_fails_stops_all_of_them() -> None:
    def fail() -> None:
        raise RuntimeError("no kernel for that")

    with pytest.raises(ModelError, match="failed to run: no kernel"):
        interleave({"m": Streams([lambda: time.sleep(0.001), fail])}, PLAN)


def test_rows_tell_streams_and_what_they_do_together(chain: Maker) -> None:
    report = bench_models([chain(64)], _quick(streams=(1, 2), batches=(2,)))
    one, two = json.loads(json.dumps(report.as_dict()))["rows"]
    assert [(r["streams"], r["sessions"]) for r in (one, two)] == [(1, 1), (2, 1)]
    rates = report.rows[1].samples.runs_per_s
    assert two["throughput_per_s"] == pytest.approx(2 * np.median(rates))
    low, high = two["throughput_ci95"]
    assert low <= two["throughput_per_s"] <= high
    assert one["throughput_ci95"][0] == pytest.approx(2000 / one["latency_ms"]["ci95_p50"][1])
    assert compare_rows(report) == ()


def test_streams_may_have_a_session_each(chain: Maker) -> None:
    row = bench_models([chain(16)], _quick(streams=(3,), session_per_stream=True)).rows[0]
    assert (row.streams, row.sessions) == (3, 3)


@pytest.mark.parametrize(("streams", "message"), [((0,), "0 streams cannot run"), ((1, 5000), "5000 streams are too")])
def test_a_number_of_streams_that_cannot_be_is_refused(streams: tuple[int, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        _quick(streams=streams).check()
