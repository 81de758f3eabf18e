"""The steady part of a benchmark: everything on one provider, in turns, in one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edgekit.bench.compare import affordable_visits, runner, verdicts_settled
from edgekit.bench.energy import Energy, find_meters, measure_energy
from edgekit.bench.inputs import BenchInputs
from edgekit.bench.measure import Recorder, Samples, interleave_afresh
from edgekit.bench.noise import disturbances, look
from edgekit.bench.records import BenchRequest, ColdStart
from edgekit.bench.streams import Run, Streams
from edgekit.ort.session import Session


@dataclass(frozen=True)
class Case:
    """One row to be measured."""

    model: Path
    provider: str
    cold: ColdStart
    streams: int


@dataclass(frozen=True)
class Steady:
    """What was recorded of some cases.

    Attributes:
        samples: By the case's number; the cases that an interruption left out are missing.
        energies: Likewise.
        notes: What disturbed the measurement.
        complete: False when the user stopped it.
    """

    samples: dict[int, Samples]
    energies: dict[int, Energy]
    notes: tuple[str, ...] = ()
    complete: bool = True


def measure_cases(cases: Sequence[Case], request: BenchRequest, beat: Callable[[int, float], object]) -> Steady:
    """Measure all cases in turns, in this process; Ctrl-C ends it early.

    Args:
        cases: All on one provider.
        request: How long, on which inputs, and with which options.
        beat: Called before each turn, with the case's number and the share of the whole that is done.

    Raises:
        ModelError: if a model fails.
        ProviderError: if the provider is not there.
    """
    recorders: dict[str, Recorder] = {}
    energies: dict[int, Energy] = {}

    def prepare(backwards: bool) -> dict[str, Run]:
        order = list(enumerate(cases))
        return {str(i): _prepared(i) for i, _ in (reversed(order) if backwards else order)}

    def _prepared(number: int) -> Run:
        on_turn(str(number))
        return prepare_case(cases[number], request)

    def on_turn(name: str) -> None:
        done = sum(min(1.0, r.spent_ns / 1e9 / request.min_seconds) for r in recorders.values())
        beat(int(name), done / len(cases))

    before, complete = look(), True
    try:
        visits = _visits(cases, request)
        interleave_afresh(
            prepare,
            request.plan,
            visits=visits,
            recorders=recorders,
            on_turn=on_turn,
            settled=lambda: verdicts_settled(_rivals(cases, request), recorders),
        )
        for number, case in enumerate(cases):
            energies[number] = _energy(case, request, partial(on_turn, str(number)))
    except KeyboardInterrupt:
        complete = False
    notes = tuple(disturbances(before, look()))
    samples = {int(name): recorder.samples() for name, recorder in recorders.items() if recorder.n}
    return Steady(samples, energies, notes, complete)


def prepare_case(case: Case, request: BenchRequest) -> Run:
    """Sessions and inputs, ready to run."""
    count = sessions_of(case, request)
    execution = request.execution_on(case.provider, case.cold.engine)
    options: dict[str, Any] = {"threads": request.thread_count, "tuned": request.tuned, "execution": execution}
    sessions = [Session(case.model, case.provider, **options) for _ in range(count)]
    inputs = BenchInputs(request.shapes, request.feeds, request.seed, case.cold.vocabularies)
    feeds = inputs.feeds(sessions[0].inputs, case.cold.batch)
    bound, streams = case.cold.io_binding, case.streams
    runs = [runner(sessions[i % count], feeds, streams=streams, bound=bound) for i in range(streams)]
    return Streams(runs) if case.streams > 1 else runs[0]


def sessions_of(case: Case, request: BenchRequest) -> int:
    """How many sessions the streams of a case share."""
    return case.streams if request.session_per_stream else 1


def _visits(cases: Sequence[Case], request: BenchRequest) -> int:
    """How often sessions are made anew: less often where that takes long, once where engines are built."""
    if any(case.provider != "cpu" for case in cases):
        return 1
    return affordable_visits(request.min_seconds * len(cases), sum(case.cold.session_ms for case in cases) / 1000)


def _rivals(cases: Sequence[Case], request: BenchRequest) -> list[list[str]]:
    """The cases that are to be compared; none where sessions are too dear to be made again."""
    groups: dict[tuple[int, int], list[str]] = {}
    if request.compare and all(case.provider == "cpu" for case in cases):
        for number, case in enumerate(cases):
            groups.setdefault((case.cold.batch, case.streams), []).append(str(number))
    return list(groups.values())


def _energy(case: Case, request: BenchRequest, beat: Callable[[], object]) -> Energy:
    """Energy of a case that runs alone, as the counters know nothing of turns."""
    meters = find_meters("cpu" if case.cold.fallback else case.provider, request.execution.device)
    if not meters.found:
        return meters.lacking
    beat()
    return measure_energy(prepare_case(case, request), meters, min(1.0, request.min_seconds))
