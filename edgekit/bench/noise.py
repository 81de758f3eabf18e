"""What else the machine did while a measurement ran."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from edgekit.bench.measure import Samples
from edgekit.bench.statistics import drift
from edgekit.machine import available_cores

_STOLEN = 0.01
_OTHERS = 0.15
_FREQUENCY = 0.05
_TAIL = 1.5


@dataclass(frozen=True)
class Moment:
    """Counters at one time, in seconds since the machine or the process started.

    Attributes:
        busy_s: CPU time of everything, all cores together.
        own_s: CPU time of this process.
        stolen_s: CPU time that a hypervisor gave to others.
        frequency_mhz: The cores' mean clock, or None where it cannot be read.
    """

    wall_s: float
    busy_s: float
    own_s: float
    stolen_s: float
    frequency_mhz: float | None


def look() -> Moment:
    """Read the counters now."""
    times, own = psutil.cpu_times(), os.times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    stolen = getattr(times, "steal", 0.0)
    # guest time is counted in user time already
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return Moment(time.monotonic(), total - idle - stolen, own.user + own.system, stolen, _frequency_mhz())


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
    if before.frequency_mhz and after.frequency_mhz:
        change = after.frequency_mhz / before.frequency_mhz - 1
        if abs(change) > _FREQUENCY:
            notes.append(f"the CPU's clock changed by {change:+.0%} meanwhile")
    return notes


def row_notes(samples: Samples, min_runs: int) -> list[str]:
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
    return notes


def thread_notes(threads: int, streams: int = 1) -> Sequence[str]:
    """A note when more threads or streams are asked for than this process has cores."""
    cores = available_cores()
    asked = {"threads": threads, "streams": streams}
    return [
        f"{count} {what} on {cores} cores that this process may use: {what} wait for each other"
        for what, count in asked.items()
        if count > cores
    ]


def _frequency_mhz() -> float | None:
    readings = list(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    values = [int(r.read_text()) / 1000 for r in readings]
    return sum(values) / len(values) if values else None
