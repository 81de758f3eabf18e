"""What else the machine did while a measurement ran."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from edgekit.bench.measure import Samples
from edgekit.bench.statistics import drift
from edgekit.machine import available_cores, cgroup_directories

_STOLEN = 0.01
_OTHERS = 0.15
_FREQUENCY = 0.05
_TAIL = 1.5
_SHORT_MS = 0.1  # of which Python itself takes several per cent, one stream at a time


@dataclass(frozen=True)
class Moment:
    """Counters at one time, in seconds since the machine or the process started.

    Attributes:
        busy_s: CPU time of everything, all cores together.
        own_s: CPU time of this process and of its children that have ended.
        stolen_s: CPU time that a hypervisor gave to others.
        frequency_mhz: The fastest core's clock while there is work, or None where it cannot be read.
        throttled_s: How long a cgroup kept its processes from running because its quota was used up.
        throttled: How often it did.
        overheated: How often the cores slowed down for heat.
    """

    wall_s: float
    busy_s: float
    own_s: float
    stolen_s: float
    frequency_mhz: float | None
    throttled_s: float = 0.0
    throttled: int = 0
    overheated: int = 0


def look(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> Moment:
    """Read the counters now, from Linux's files where they are there."""
    busy, stolen = _cpu_times(proc)
    throttled, throttled_s = _throttling(proc, sys)
    return Moment(
        wall_s=time.monotonic(),
        busy_s=busy,
        own_s=sum(os.times()[:4]),
        stolen_s=stolen,
        frequency_mhz=_frequency_mhz(proc, sys),
        throttled_s=throttled_s,
        throttled=throttled,
        overheated=_overheated(sys),
    )


def disturbances(before: Moment, after: Moment) -> list[str]:
    """What disturbed everything between two moments, in words."""
    wall = after.wall_s - before.wall_s
    if wall <= 0:
        return []
    notes = []
    stolen = (after.stolen_s - before.stolen_s) / wall
    if stolen > _STOLEN:
        notes.append(f"the hypervisor took {stolen:.0%} of a core away (stolen time); latencies are too high")
    others = (after.busy_s - before.busy_s - after.own_s + before.own_s) / wall
    if others > _OTHERS:
        notes.append(f"other processes used {others:.1f} cores of {psutil.cpu_count()} meanwhile; stop them and repeat")
    return notes + _slowed(before, after)


def _slowed(before: Moment, after: Moment) -> list[str]:
    """What slowed the cores themselves down."""
    notes = []
    times = after.throttled - before.throttled
    if times > 0:
        lost = after.throttled_s - before.throttled_s
        notes.append(
            f"the cgroup's CPU quota was used up {times} times, for {lost:.2f} s in all; use fewer threads, or a "
            "larger quota"
        )
    if after.overheated > before.overheated:
        notes.append(f"the CPU slowed down for heat {after.overheated - before.overheated} times; let it cool")
    if before.frequency_mhz and after.frequency_mhz:
        change = after.frequency_mhz / before.frequency_mhz - 1
        if abs(change) > _FREQUENCY:
            notes.append(f"the CPU's clock changed by {change:+.0%} meanwhile")
    return notes


def row_notes(samples: Samples, min_runs: int, streams: int = 1) -> list[str]:
    """What is to be said of one row's runs."""
    notes = []
    change = drift(samples.ms)
    if change is not None:
        notes.append(f"latency drifted by {change:+.0%} from the first to the last third of the runs")
    ordered = sorted(samples.ms)
    tail = ordered[int(0.9 * (len(ordered) - 1))] / ordered[len(ordered) // 2]
    if tail > _TAIL:
        notes.append(f"a tenth of the runs took {tail:.1f} times the median or more")
    if samples.n < min_runs:
        notes.append(f"stopped after {samples.n} of {min_runs} runs: the time was up")
    if streams > 1 and float(np.median(samples.ms)) < _SHORT_MS:
        notes.append(
            "runs this short wait for Python's lock when there are several streams; a program in C++ does more"
        )
    return notes


def thread_notes(threads: int, streams: int = 1, sessions: int = 1) -> Sequence[str]:
    """A note when more threads are asked for than this process has cores.

    A session adds its own threads, less one, to those of the streams that call it.
    """
    cores, busy = available_cores(), streams + sessions * (threads - 1)
    if busy <= cores:
        return []
    asked = f"{busy} threads"
    if streams > 1:
        held = "a session" if sessions == 1 else f"{sessions} sessions"
        asked = f"{streams} streams and {held} of {threads} threads, {busy} together,"
    return [f"{asked} on {cores} cores that this process may use: threads wait for each other"]


def _cpu_times(proc: Path) -> tuple[float, float]:
    """Seconds of work and of stolen time, over all cores.

    Source: proc_stat(5); guest time is counted in user time already.
    """
    stat = proc / "stat"
    if not stat.exists():
        times = psutil.cpu_times()
        return sum(times) - times.idle, 0.0
    user, nice, system, _, _, irq, softirq, stolen = map(int, stat.read_text().split("\n", 1)[0].split()[1:9])
    ticks = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / ticks, stolen / ticks


def _throttling(proc: Path, sys: Path) -> tuple[int, float]:
    """How often and how long this process's cgroups were kept from running.

    Source: the kernel's documentation of cgroup v2 (`throttled_usec`) and of the CFS quota (`throttled_time`, in ns).
    """
    times, seconds = 0, 0.0
    for directory in cgroup_directories("cpu", sys / "fs/cgroup", proc / "self/cgroup"):
        file = directory / "cpu.stat"
        if file.exists():
            held = {k: int(v) for k, v in (line.split() for line in file.read_text().splitlines())}
            times += held.get("nr_throttled", 0)
            seconds += held.get("throttled_usec", 0) / 1e6 + held.get("throttled_time", 0) / 1e9
    return times, seconds


def _frequency_mhz(proc: Path, sys: Path) -> float | None:
    """The clock of the core that works: from cpufreq, else from /proc/cpuinfo, where a virtual machine's is fixed."""
    readings = list((sys / "devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    if readings:
        _wake()
        return max(int(r.read_text()) for r in readings) / 1000
    cpuinfo = proc / "cpuinfo"
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return max((float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")), default=None)


def _wake(seconds: float = 0.05) -> None:
    """Keep a core busy for a moment: one that idled has a low clock, which says nothing."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def _overheated(sys: Path) -> int:
    counters = (sys / "devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    return sum(int(c.read_text()) for c in counters)
