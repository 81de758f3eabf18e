from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from edgekit.bench import noise
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


def test_a_quota_that_is_used_up_and_heat_are_named() -> None:
    assert (
        "quota was used up 7 times, for 0.40 s" in disturbances(BEFORE, replace(QUIET, throttled=7, throttled_s=0.4))[0]
    )
    assert "slowed down for heat 3 times" in disturbances(BEFORE, replace(QUIET, overheated=3))[0]


# /proc/stat and the cgroups' cpu.stat of two moments on a machine with two cores, as the kernel wrote them
STAT = "cpu  1000 20 300 5000 10 0 5 40 7 0\ncpu0 500 10 150 2500 5 0 3 20 7 0\nctxt 12345\nbtime 1732240000\n"
STAT_LATER = "cpu  1900 20 310 5010 10 0 5 160 7 0\ncpu0 950 10 155 2505 5 0 3 80 7 0\nctxt 12399\nbtime 1732240000\n"
CPU_STAT_V2 = "usage_usec 9\nuser_usec 5\nsystem_usec 4\nnr_periods 100\nnr_throttled {times}\nthrottled_usec {usec}\n"
CPU_STAT_V1 = "nr_periods 100\nnr_throttled {times}\nthrottled_time {ns}\n"


def _system(place: Path, stat: str, cgroup: dict[str, str], membership: str, mhz: int, heat: int) -> tuple[Path, Path]:
    """A /proc and a /sys with these texts."""
    proc, sys = place / "proc", place / "sys"
    files = {
        proc / "stat": stat,
        proc / "self/cgroup": membership,
        **{sys / "fs/cgroup" / name: text for name, text in cgroup.items()},
        sys / "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": f"{mhz}000\n",
        sys / "devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "800000\n",
        sys / "devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": f"{heat}\n",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return proc, sys


def test_recorded_counters_of_linux_are_read_and_said(tmp_path: Path) -> None:
    def moment(stat: str, times: int, mhz: int, heat: int) -> Moment:
        held = {"a/b/cpu.stat": CPU_STAT_V2.format(times=times, usec=250_000 * times), "a/cpu.stat": "nr_periods 0\n"}
        return look(*_system(tmp_path, stat, held, "0::/a/b\n", mhz, heat))

    before, after = moment(STAT, 2, 3000, 5), moment(STAT_LATER, 6, 2400, 6)
    assert (before.busy_s, before.stolen_s) == (13.25, 0.4)
    assert (before.throttled, before.throttled_s) == (2, 0.5)
    assert (before.frequency_mhz, after.frequency_mhz) == (3000, 2400)
    notes = disturbances(replace(before, wall_s=0, own_s=0), replace(after, wall_s=10, own_s=4))
    assert notes == [
        "the hypervisor took 12% of a core away (stolen time); latencies are too high",
        f"other processes used 0.5 cores of {psutil.cpu_count()} meanwhile; stop them and repeat",
        "the cgroup's CPU quota was used up 4 times, for 1.00 s in all; use fewer threads, or a larger quota",
        "the CPU slowed down for heat 1 times; let it cool",
        "the CPU's clock changed by -20% meanwhile",
    ]


def test_throttling_is_read_from_cgroups_of_version_1_too(tmp_path: Path) -> None:
    held = {"cpu/pod/cpu.stat": CPU_STAT_V1.format(times=3, ns=1_500_000_000)}
    found = look(*_system(tmp_path, STAT, held, "4:cpu,cpuacct:/pod\n", 3000, 0))
    assert (found.throttled, found.throttled_s) == (3, 1.5)


def test_where_nothing_can_be_read_nothing_is_claimed(tmp_path: Path) -> None:
    found = look(tmp_path / "proc", tmp_path / "sys")
    assert (found.frequency_mhz, found.throttled, found.stolen_s) == (None, 0, 0.0)
    assert found.busy_s > 0


def test_the_clock_of_a_virtual_machine_comes_from_cpuinfo(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\ncpu MHz\t\t: 2599.998\nprocessor : 1\ncpu MHz\t\t: 2600.5\n")
    assert look(tmp_path, tmp_path).frequency_mhz == 2600.5


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


def test_short_runs_of_several_streams_are_not_what_another_language_would_do() -> None:
    short = _samples(np.full(100, 0.05))
    assert row_notes(short, 44) == row_notes(_samples(np.full(100, 2.0)), 44, 4) == []
    assert "wait for Python's lock" in row_notes(short, 44, 4)[0]


def test_threads_above_the_cores_are_noted() -> None:
    assert thread_notes(available_cores()) == []
    assert f"on {available_cores()} cores" in thread_notes(available_cores() + 1)[0]


def test_streams_count_as_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "available_cores", lambda: 4)
    assert thread_notes(1, 4) == thread_notes(3, 2) == thread_notes(2, 2, 2) == []
    rest = "on 4 cores that this process may use: threads wait for each other"
    assert thread_notes(4, 2) == [f"2 streams and a session of 4 threads, 5 together, {rest}"]
    assert thread_notes(2, 3, 3) == [f"3 streams and 3 sessions of 2 threads, 6 together, {rest}"]
