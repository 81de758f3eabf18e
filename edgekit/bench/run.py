"""A benchmark from request to report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit import machine
from edgekit.bench.cold import cold_start
from edgekit.bench.compare import affordable_visits, runner
from edgekit.bench.inputs import BenchInputs
from edgekit.bench.measure import Recorder, Samples, interleave_afresh
from edgekit.bench.noise import disturbances, look, row_notes, thread_notes
from edgekit.bench.records import BenchInterrupted, BenchReport, BenchRequest, BenchRow, ColdStart
from edgekit.bench.statistics import summarise
from edgekit.bench.streams import Run, Streams
from edgekit.errors import ModelError
from edgekit.graph.read import size_bytes
from edgekit.ort.session import Session
from edgekit.progress import track


@dataclass(frozen=True)
class _Case:
    """One row to be measured."""

    model: Path
    provider: str
    cold: ColdStart
    streams: int


def bench_models(models: Sequence[Path], request: BenchRequest | None = None) -> BenchReport:
    """Measure models on providers, batch sizes and numbers of streams; what is on one provider in turns.

    Args:
        models: Paths of .onnx files.
        request: What to measure; the defaults of BenchRequest where it is not given.

    Raises:
        ModelError: if a model is not there, does not load, crashes, hangs, or does not take the batch or the shapes.
        ProviderError: if a provider is unknown, not in the installed ONNX Runtime, or does not load.
        BenchInterrupted: when the user stops it; its `report` holds what was measured.
    """
    request = request or BenchRequest()
    request.check()
    if not models:
        raise ModelError("no model to measure; give the path of an .onnx file")
    sizes = {model: size_bytes(model) for model in models}
    notes = list(thread_notes(request.thread_count, max(request.streams)))
    rows: list[BenchRow] = []
    try:
        for provider in dict.fromkeys(request.providers):
            _measure_provider(models, provider, request, sizes, rows, notes)
    except KeyboardInterrupt:
        raise BenchInterrupted(_report(rows, notes, complete=False)) from None
    return _report(rows, notes, complete=True)


def _measure_provider(
    models: Sequence[Path],
    provider: str,
    request: BenchRequest,
    sizes: dict[Path, int],
    rows: list[BenchRow],
    notes: list[str],
) -> None:
    """Add a provider's rows and notes, also when it is interrupted."""
    wanted = [(model, batch) for model in models for batch in (request.batches or (None,))]
    cases = [
        _Case(model, provider, cold, streams)
        for model, batch in track(wanted, f"cold starts on {provider}", total=len(wanted))
        for cold in [cold_start(model, provider, batch, request)]
        for streams in request.streams
    ]

    def prepare(backwards: bool) -> dict[str, Run]:
        order = list(enumerate(cases))
        return {str(i): _prepared(case, request) for i, case in (reversed(order) if backwards else order)}

    recorders: dict[str, Recorder] = {}
    before = look()
    try:
        interleave_afresh(prepare, request.plan, visits=_visits(cases, request), recorders=recorders)
    finally:
        notes += [f"{provider}: {text}" for text in disturbances(before, look())]
        taken = [(case, recorders[str(i)].samples()) for i, case in enumerate(cases) if str(i) in recorders]
        rows += [_row(case, samples, sizes[case.model], request) for case, samples in taken if samples.n]


def _visits(cases: Sequence[_Case], request: BenchRequest) -> int:
    """How often sessions are made anew: less often where that takes long, once where engines are built."""
    if any(case.provider != "cpu" for case in cases):
        return 1
    return affordable_visits(request.min_seconds * len(cases), sum(case.cold.session_ms for case in cases) / 1000)


def _prepared(case: _Case, request: BenchRequest) -> Run:
    sessions = [
        Session(case.model, case.provider, threads=request.thread_count) for _ in range(_sessions(case, request))
    ]
    feeds = BenchInputs(request.shapes, request.feeds, request.seed).feeds(sessions[0].inputs, case.cold.batch)
    runs = [runner(sessions[i % len(sessions)], feeds, streams=case.streams) for i in range(case.streams)]
    return Streams(runs) if case.streams > 1 else runs[0]


def _sessions(case: _Case, request: BenchRequest) -> int:
    return case.streams if request.session_per_stream else 1


def _row(case: _Case, samples: Samples, size: int, request: BenchRequest) -> BenchRow:
    return BenchRow(
        model=str(case.model),
        provider=case.provider,
        threads=request.thread_count,
        cold=case.cold,
        latency_ms=summarise(samples.ms, samples.round_medians()),
        size_bytes=size,
        samples=samples,
        input_source=BenchInputs(request.shapes, request.feeds).source,
        notes=tuple(row_notes(samples, request.min_runs)),
        streams=case.streams,
        sessions=_sessions(case, request),
    )


def _report(rows: list[BenchRow], notes: list[str], *, complete: bool) -> BenchReport:
    return BenchReport(tuple(rows), machine.facts(), tuple(notes), complete)
