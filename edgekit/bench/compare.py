"""Which of two models is faster, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from edgekit.bench.engine import engine_of
from edgekit.bench.inputs import BenchInputs
from edgekit.bench.measure import Plan, Recorder, Samples, interleave
from edgekit.bench.records import BenchReport, BenchRequest, BenchRow, Setting
from edgekit.bench.statistics import MIN_ROUNDS, Interval, paired_ratio
from edgekit.bench.streams import Run
from edgekit.machine import available_cores
from edgekit.ort.binding import BoundRun
from edgekit.ort.execution import Execution
from edgekit.ort.session import Session
from edgekit.specs import Feeds

MARGIN = 0.03
_MOST_VISITS = 8
_WIDEST = 0.10
_NARROW = 0.05
_FAIR = 0.15
_LONG_RUN_S = 0.05


class Verdict(StrEnum):
    """What a comparison says about the second of two models."""

    FASTER = "FASTER"
    SLOWER = "SLOWER"
    NO_DIFFERENCE = "NO DIFFERENCE"
    TOO_NOISY = "TOO NOISY"


@dataclass(frozen=True)
class Speedup:
    """How many times as fast the second of two is: above 1 is faster.

    Attributes:
        ratio: Median over rounds of first / second.
        ci95: Its 95 % interval; None with too few rounds.
        rounds: How many rounds both took part in.
    """

    ratio: float
    ci95: Interval | None
    rounds: int


@dataclass(frozen=True)
class LatencyComparison:
    """Two models measured in turns on the same inputs."""

    before_ms: float
    after_ms: float
    speedup: Speedup
    verdict: Verdict
    n: tuple[int, int]
    provider: str
    threads: int

    def as_dict(self) -> dict[str, Any]:
        """`latency_ms` of the contract of `quantize --json`."""
        return {
            "before": self.before_ms,
            "after": self.after_ms,
            "speedup": self.speedup.ratio,
            "ci95": None if self.speedup.ci95 is None else list(self.speedup.ci95),
            "verdict": str(self.verdict),
            "n": list(self.n),
            "provider": self.provider,
            "threads": self.threads,
        }


@dataclass(frozen=True)
class RowComparison:
    """One row of a report against the first model's row in the same setting."""

    model: str
    baseline: str
    setting: Setting
    speedup: Speedup
    verdict: Verdict

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds."""
        gain = self.speedup
        return {
            "model": self.model,
            "baseline": self.baseline,
            **self.setting._asdict(),
            "speedup": gain.ratio,
            "ci95": None if gain.ci95 is None else list(gain.ci95),
            "verdict": str(self.verdict),
        }


def compare_rows(report: BenchReport) -> tuple[RowComparison, ...]:
    """Every model of a report against the first one; rows were measured in turns, so rounds can be paired."""
    baselines: dict[Setting, BenchRow] = {}
    found = []
    for row in report.rows:
        base = baselines.setdefault(row.setting, row)
        if base is not row:
            gain = speedup(base.samples, row.samples)
            found.append(RowComparison(row.model, base.model, row.setting, gain, verdict(gain)))
    return tuple(found)


def speedup(before: Samples, after: Samples) -> Speedup:
    """How many times as fast `after` is, paired over the rounds that both took part in."""
    first, second = before.medians_by_round(), after.medians_by_round()
    shared = sorted(first.keys() & second.keys())
    if not shared:
        return Speedup(float(np.median(before.ms) / np.median(after.ms)), None, 0)
    ratio, interval = paired_ratio(np.array([first[r] for r in shared]), np.array([second[r] for r in shared]))
    return Speedup(ratio, interval, len(shared))


def verdict(found: Speedup, margin: float = MARGIN) -> Verdict:
    """What may be said of a speed-up.

    A difference counts when the interval excludes 1 and the ratio is beyond the margin: two sessions of the same file
    differ by a percent or two, because their weights lie elsewhere in memory.

    >>> verdict(Speedup(1.4, (1.35, 1.45), 50))
    <Verdict.FASTER: 'FASTER'>
    """
    if found.ci95 is None:
        return Verdict.TOO_NOISY
    low, high = found.ci95
    if low > 1 and found.ratio > 1 + margin:
        return Verdict.FASTER
    if high < 1 and found.ratio < 1 / (1 + margin):
        return Verdict.SLOWER
    return Verdict.NO_DIFFERENCE if high / low - 1 <= _WIDEST else Verdict.TOO_NOISY


def compare_latency(
    before: Path,
    after: Path,
    feeds: Feeds | None = None,
    *,
    threads: int | None = None,
    seconds: float = 1.0,
    provider: str = "cpu",
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> LatencyComparison:
    """Measure two models in turns, in this process; give it files that have run before.

    What a provider builds is built before, in a process of its own, and kept: no build is inside a latency.

    Args:
        before: The original.
        after: What was made of it; the same inputs.
        feeds: One feed for both; made from the original's inputs where it is not given.
        threads: By default all cores that this process may use.
        seconds: Least time of recorded runs for each.
        provider: Short name.
        batch: Of the feed that is made; by default what the model fixes, else that of `shapes`, else 1.
        shapes: Of the feed that is made, for dimensions beyond the batch.

    Raises:
        ModelError: if one of them does not load or run.
        ProviderError: if the provider is not there.
    """
    count = threads if threads is not None else available_cores()
    maker = BenchInputs(shapes or {})
    executions = _executions((before, after), provider, feeds, batch, shapes or {}, count)

    def prepare(backwards: bool) -> dict[str, Run]:
        order = [("before", before), ("after", after)]
        made = {
            name: Session(path, provider, threads=count, execution=executions[path])
            for name, path in (reversed(order) if backwards else order)
        }
        inputs = made["before"].inputs
        used = feeds or maker.feeds(inputs, batch or maker.batch(inputs))
        return {name: runner(session, used) for name, session in made.items()}

    first, second, gain = measure_pair(prepare, seconds)
    return LatencyComparison(
        before_ms=float(np.median(first.ms)),
        after_ms=float(np.median(second.ms)),
        speedup=gain,
        verdict=verdict(gain),
        n=(first.n, second.n),
        provider=provider,
        threads=count,
    )


def _executions(
    models: Sequence[Path],
    provider: str,
    feeds: Feeds | None,
    batch: int | None,
    shapes: Mapping[str, Sequence[int]],
    threads: int,
) -> dict[Path, Execution]:
    """How each model runs, with its engine where the provider builds one for the feed that is measured."""
    used = {name: np.shape(array) for name, array in feeds.items()} if feeds else shapes
    batches = (batch,) if batch and not feeds else ()
    request = BenchRequest(providers=(provider,), batches=batches, shapes=used, threads=threads)
    return {model: request.execution_on(provider, engine_of(model, provider, request)) for model in models}


def measure_pair(
    prepare: Callable[[bool], Mapping[str, Run]],
    seconds: float,
    reading: Callable[[Samples], Samples] = lambda samples: samples,
) -> tuple[Samples, Samples, Speedup]:
    """Visit after visit with new sessions, until the verdict is settled or four times the time is used up.

    Args:
        prepare: Makes new sessions and gives the runs `before` and `after`; told True, in the opposite order.
        seconds: Least time of recorded runs for each.
        reading: What of the samples is compared; by default their latencies.
    """
    plan = Plan(min_seconds=seconds, min_runs=10, warmup_seconds=seconds)
    recorders: dict[str, Recorder] = {}
    start = perf_counter()
    runs = prepare(False)
    visits = affordable_visits(2 * seconds, perf_counter() - start)
    for done in range(1, 4 * visits + 1):
        taken = interleave(runs, plan.part(done, visits), recorders=recorders)
        gain = speedup(reading(taken["before"]), reading(taken["after"]))
        spent = min(r.spent_ns for r in recorders.values()) / 1e9
        if gain.rounds >= MIN_ROUNDS and (spent > 4 * seconds or (done >= visits and _settled(gain))):
            break
        if visits > 1:
            runs = prepare(done % 2 == 1)
    return taken["before"], taken["after"], gain


def affordable_visits(measuring_s: float, preparing_s: float) -> int:
    """How many visits with new sessions fit, if preparing may take half as long as measuring."""
    return max(1, min(_MOST_VISITS, int(measuring_s / 2 / max(preparing_s, 1e-9))))


def _settled(found: Speedup) -> bool:
    """Whether more rounds would change nothing: the interval is narrow, or fair and all of it beyond the margin."""
    if found.ci95 is None:
        return False
    low, high = found.ci95
    beyond = low > 1 + MARGIN or high < 1 / (1 + MARGIN)
    return high / low - 1 <= (_FAIR if beyond else _NARROW)


def verdicts_settled(groups: Iterable[Sequence[str]], recorders: Mapping[str, Recorder]) -> bool:
    """Whether more rounds would change no verdict.

    Args:
        groups: Names of what was measured; in each group the others are compared with the first.
        recorders: What was recorded, by name.
    """
    pairs = [(first, other) for first, *others in groups for other in others]
    return all(_settled(speedup(recorders[a].samples(), recorders[b].samples())) for a, b in pairs)


def runner(session: Session, feeds: Feeds, *, streams: int = 1, bound: bool = False) -> Run:
    """One run of a session on one feed, with nothing of ours inside the clock.

    Args:
        session: What runs.
        feeds: Its inputs.
        streams: How many run at the same time.
        bound: Whether inputs and outputs stay on the device.

    Only a long run gets the options through which Ctrl-C stops it: they cost half a microsecond, and a short run ends
    by itself. So a short run is exactly the call that everybody writes.
    """
    plain = dict(feeds)
    held = BoundRun(session, plain) if bound else partial(session.run, plain)
    start = perf_counter()
    held()
    is_long = streams * (perf_counter() - start) > _LONG_RUN_S
    if isinstance(held, BoundRun):
        return held.run_interruptibly if is_long else held.run
    if is_long:
        return partial(session.raw.run, None, plain, session.run_options)
    return partial(session.raw.run, None, plain)
