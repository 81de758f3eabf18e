"""The measuring loop: several things to run, taken in turns, warmed up first, timed one run at a time."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter_ns
from typing import NamedTuple

import numpy as np

from edgekit.bench.statistics import MIN_ROUNDS
from edgekit.bench.streams import Run, Streams
from edgekit.errors import ModelError, brief
from edgekit.ort.session import interrupt_or
from edgekit.specs import Array

_TURN_NS = 10_000_000  # long enough that a tiny model runs as it does alone, short enough for many rounds in a second
_LONG_TURN_NS = 250_000_000
_STEADY_TURN_NS = 60_000_000  # for so many runs that their median does not mind those that something interrupted
_STEADY_RUNS = 24
_REWARM_NS = 5_000_000  # a run longer than this refills its caches by itself
_STREAMS_TURN_S = 0.1  # long enough that the ends, where some streams have stopped already, do not count
_STREAMS_RUNS = 8
_STABLE = 0.03
_LONGER = 4


@dataclass(frozen=True)
class Plan:
    """When a measurement is long enough.

    Attributes:
        min_seconds: Least time of recorded runs, for each thing measured.
        min_runs: Least number of recorded runs, for each.
        max_seconds: After this a slow thing stops although `min_runs` is not reached.
        warmup_seconds: Most time of its warm-up, for each; it ends earlier when the runs are stable.
        min_rounds: Least number of rounds that each takes part in.
    """

    min_seconds: float = 2.0
    min_runs: int = 44
    max_seconds: float = 60.0
    warmup_seconds: float = 1.0
    min_rounds: int = MIN_ROUNDS

    def part(self, done: int, visits: int) -> Plan:
        """What must be reached after `done` of so many visits."""
        share = done / visits
        return Plan(
            self.min_seconds * share,
            math.ceil(self.min_runs * share),
            self.max_seconds * share,
            self.warmup_seconds / visits,
            math.ceil(self.min_rounds * share),
        )


@dataclass(frozen=True)
class Samples:
    """The recorded runs of one thing.

    Attributes:
        ms: float64 (n,), one latency a run, in the order they ran.
        rounds: int64 (n,), the round each run belongs to; things measured together share the numbering.
        runs_per_s: float64 (rounds,), what several streams did together in each round; empty where there is one.
    """

    ms: Array
    rounds: Array
    runs_per_s: Array = field(default_factory=lambda: np.empty(0))

    @property
    def n(self) -> int:
        """Number of recorded runs."""
        return len(self.ms)

    def medians_by_round(self) -> dict[int, float]:
        """The median latency of each round."""
        edges = np.flatnonzero(np.diff(self.rounds)) + 1
        parts = np.split(self.ms, edges)
        return {int(r): float(np.median(p)) for r, p in zip(self.rounds[np.r_[0, edges]], parts, strict=True) if len(p)}

    def round_medians(self) -> Array:
        """The same without the rounds' numbers: float64 (rounds,)."""
        return np.array(list(self.medians_by_round().values()))


@dataclass
class Recorder:
    """What has been recorded of one thing so far; it outlives an interruption."""

    run_ns: int = 0
    spent_ns: int = 0
    taken: list[Array] = field(default_factory=list)
    at_round: list[int] = field(default_factory=list)
    runs_per_s: list[float] = field(default_factory=list)

    @property
    def n(self) -> int:
        """Number of recorded runs."""
        return sum(map(len, self.taken))

    def samples(self) -> Samples:
        """The runs recorded so far."""
        ns = np.concatenate([np.empty(0), *self.taken])
        rounds = np.repeat(np.array(self.at_round, dtype=np.int64), list(map(len, self.taken)))
        return Samples(ns / 1e6, rounds, np.array(self.runs_per_s))

    def add(self, number: int, taken: list[int], spent_ns: int) -> None:
        """Note one turn."""
        self.taken.append(np.array(taken, dtype=np.float64))
        self.at_round.append(number)
        self.spent_ns += spent_ns

    def enough(self, plan: Plan) -> bool:
        """Whether the plan is fulfilled."""
        spent = self.spent_ns / 1e9
        if spent >= plan.max_seconds and self.taken:
            return True
        return spent >= plan.min_seconds and len(self.taken) >= plan.min_rounds and self.n >= plan.min_runs


class _Turn(NamedTuple):
    """One of the things that take turns."""

    name: str
    run: Run
    recorder: Recorder


def interleave(
    runs: Mapping[str, Run],
    plan: Plan | None = None,
    *,
    recorders: dict[str, Recorder] | None = None,
    on_turn: Callable[[str], object] = lambda name: None,
) -> dict[str, Samples]:
    """Time things in turns, A B B A ..., so that what disturbs the machine disturbs all of them alike.

    Args:
        runs: One callable a thing; the name comes back with its samples.
        plan: When to stop.
        recorders: What was recorded before, to go on with; it is filled as runs are taken, so that after a
            KeyboardInterrupt it holds what there is.
        on_turn: Called with the name of what is run next, outside the clock.

    Raises:
        ModelError: if a run fails.
    """
    plan = plan or Plan()
    kept = {} if recorders is None else recorders
    for name, run in runs.items():
        on_turn(name)
        kept.setdefault(name, Recorder()).run_ns = warm_up(run, plan.warmup_seconds)
    with _no_collection():
        _take_rounds([_Turn(name, run, kept[name]) for name, run in runs.items()], plan, on_turn)
    return {name: kept[name].samples() for name in runs}


def interleave_afresh(
    prepare: Callable[[bool], Mapping[str, Run]],
    plan: Plan,
    *,
    visits: int,
    recorders: dict[str, Recorder],
    on_turn: Callable[[str], object] = lambda name: None,
    settled: Callable[[], bool] = lambda: True,
) -> None:
    """Interleave in several visits, each with sessions of its own.

    Two sessions of one file differ by up to 3 %, for as long as they live, because their weights lie elsewhere in
    memory; several sessions average that out.

    Args:
        prepare: Makes new sessions and gives their runs; told True, it makes them in the opposite order.
        plan: When all visits together are long enough.
        visits: How many; 1 where sessions are dear.
        recorders: Filled as runs are taken.
        on_turn: Called with the name of what is run next, outside the clock.
        settled: Asked after those visits; as long as it says no, others follow, up to four times the least time.
    """
    for done in range(1, _LONGER * visits + 1):
        part = plan.part(done, visits)
        if done > visits:
            if settled():
                break
            part = replace(part, min_runs=plan.min_runs, max_seconds=plan.max_seconds)  # slow things are not prolonged
        interleave(prepare(done % 2 == 0), part, recorders=recorders, on_turn=on_turn)


def warm_up(run: Run, seconds: float) -> int:
    """Run until two windows in a row agree, or for `seconds`; returns one run's nanoseconds.

    Several streams run together in one last window.
    """
    run_ns = _warm_up_alone(run, seconds)
    if not isinstance(run, Streams):
        return run_ns
    with _failures():
        return int(np.median(run.load(min(seconds, _STREAMS_TURN_S)).taken_ns))


def _warm_up_alone(run: Run, seconds: float) -> int:
    run_ns = _timed(run, 1)[0]
    spent, before = 0, math.inf
    while spent < seconds * 1e9:
        window = _timed(run, max(3, min(200, int(_TURN_NS // max(run_ns, 1)))))
        spent += sum(window)
        run_ns = int(np.median(window))
        if abs(run_ns - before) <= _STABLE * before:
            break
        before = run_ns
    return max(1, run_ns)


def _take_rounds(turns: list[_Turn], plan: Plan, on_turn: Callable[[str], object]) -> None:
    recorders = [turn.recorder for turn in turns]
    slowest = max(r.run_ns for r in recorders)
    turn_ns = max(_TURN_NS, min(_STEADY_TURN_NS, _STEADY_RUNS * slowest), min(_LONG_TURN_NS, slowest))
    number = 1 + max((r.at_round[-1] for r in recorders if r.at_round), default=-1)
    while not all(r.enough(plan) for r in recorders):
        # who has enough goes on for a while, so that the others have somebody to be paired with
        active = [t for t in turns if not t.recorder.enough(plan) or t.recorder.spent_ns < 1.5e9 * plan.min_seconds]
        # every second round backwards, so that nobody always runs after the same neighbour
        for turn in active if number % 2 == 0 else reversed(active):
            on_turn(turn.name)
            _take_turn(turn.run, turn.recorder, number, turn_ns, alone=len(active) == 1)
        number += 1


def _take_turn(run: Run, recorder: Recorder, number: int, turn_ns: int, *, alone: bool) -> None:
    if isinstance(run, Streams):
        _take_turn_of_streams(run, recorder, number)
        return
    count = max(1, min(1000, turn_ns // recorder.run_ns))
    if not alone and recorder.run_ns < _REWARM_NS:
        _timed(run, 1 + min(20, count // 20))  # unrecorded: the others' turn emptied the caches
    taken = _timed(run, count)
    recorder.add(number, taken, sum(taken))


def _take_turn_of_streams(streams: Streams, recorder: Recorder, number: int) -> None:
    with _failures():
        load = streams.load(min(1.0, max(_STREAMS_TURN_S, _STREAMS_RUNS * recorder.run_ns / 1e9)))
    recorder.runs_per_s.append(load.runs_per_s)
    recorder.add(number, load.taken_ns, load.wall_ns)


def _timed(run: Run, count: int) -> list[int]:
    """Nanoseconds of `count` runs; nothing but the call stands between the two clock readings."""
    taken = [0] * count
    with _failures():
        for i in range(count):
            start = perf_counter_ns()
            run()
            taken[i] = perf_counter_ns() - start
    return taken


@contextmanager
def _failures() -> Iterator[None]:
    """Say what failed in a run, or that the user stopped it."""
    try:
        yield
    except Exception as error:
        interrupt_or(error)
        raise ModelError(f"the model failed to run: {brief(error)}") from error


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python's garbage collector out of the timings; it is not run before either: seconds in a large process."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
