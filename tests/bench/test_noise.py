from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekit.bench.measure import Samples
from edgekit.bench.noise import Moment, disturbances, look, row_notes, thread_notes
from edgekit.machine import available_cores

BEFORE = Moment(wall_s=0, busy_s=100, own_s=10, stolen_s=0, frequency_mhz=3000)
QUIET = Moment(wall_s=10, busy_s=110, own_s=20, stolen_s=0, frequency_mhz=3000)


def _samples(ms: np.ndarray) -> Samples:
    return Samples(ms, np.arange(len(ms)))


def test_a_quiet_machine_gives_no_notes() -> None:
    assert disturbances(BEFORE, QUIET) == []
    assert disturbances(BEFORE, BEFORE) == []


def test_stolen_time_other_processes_and_the_clock_are_named() -> None:
    assert "hypervisor took 20% of a core" in disturbances(BEFORE, replace(QUIET, stolen_s=2))[0]
    assert "other processes used 0.9 cores" in disturbances(BEFORE, replace(QUIET, busy_s=119))[0]
    assert "clock changed by -20%" in disturbances(BEFORE, replace(QUIET, frequency_mhz=2400))[0]
    assert disturbances(BEFORE, replace(QUIET, frequency_mhz=None)) == []


def test_counters_only_grow() -> None:
    first = look()
    sum(range(300_000))
    second = look()
    assert second.wall_s > first.wall_s
    assert second.own_s >= first.own_s
    assert second.busy_s >= first.busy_s


def test_rows_say_drift_long_tails_and_too_few_runs() -> None:
    steady = np.full(100, 1.0)
    assert row_notes(_samples(steady), 44) == []
    assert row_notes(_samples(steady), 200) == ["stopped after 100 of 200 runs: the time was up"]
    assert "drifted by +" in row_notes(_samples(np.linspace(1.0, 1.4, 100)), 44)[0]
    tail = np.tile([1.0, 1.0, 1.0, 1.0, 5.0], 20)
    assert "took 5.0 times the median or more" in row_notes(_samples(tail), 44)[0]


def test_threads_above_the_cores_are_noted() -> None:
    assert thread_notes(available_cores()) == []
    assert f"on {available_cores()} cores" in thread_notes(available_cores() + 1)[0]
