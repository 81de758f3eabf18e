"""A benchmark from request to report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit import machine
from edgekit.bench.cold import cold_start
from edgekit.bench.energy import NOT_MEASURED
from edgekit.bench.engine import engine_of
from edgekit.bench.guarded import measure_guarded
from edgekit.bench.inputs import BenchInputs
from edgekit.bench.noise import row_notes, thread_notes
from edgekit.bench.records import BenchInterrupted, BenchReport, BenchRequest, BenchRow, ColdStart
from edgekit.bench.statistics import summarise
from edgekit.bench.steady import Case, Steady, measure_cases, sessions_of
from edgekit.errors import ModelError
from edgekit.graph.read import size_bytes
from edgekit.ort.options import SessionOptions
from edgekit.ort.providers import short_name
from edgekit.progress import track


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
    most = max(request.streams)
    notes = list(thread_notes(request.thread_count, most, most if request.session_per_stream else 1))
    notes += [] if request.tuned is None else [f"session options: {request.tuned}"]
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
    engines = {model: engine_of(model, provider, request) for model in dict.fromkeys(models)}
    wanted = [(model, batch) for model in models for batch in (request.batches or (None,))]
    cases = [
        Case(model, provider, cold, streams)
        for model, batch in track(wanted, f"cold starts on {provider}", total=len(wanted))
        for cold in [cold_start(model, provider, batch, request, engines[model])]
        for streams in request.streams
    ]
    steady = measure_guarded(cases, request) if request.guard else measure_cases(cases, request, lambda *_: None)
    notes += [f"{provider}: {text}" for text in steady.notes]
    rows += [_row(cases[i], steady, i, sizes[cases[i].model], request) for i in sorted(steady.samples)]
    if not steady.complete:
        raise KeyboardInterrupt


def _row(case: Case, steady: Steady, number: int, size: int, request: BenchRequest) -> BenchRow:
    samples = steady.samples[number]
    return BenchRow(
        model=str(case.model),
        provider=case.provider,
        threads=request.thread_count,
        cold=case.cold,
        latency_ms=summarise(samples.ms, samples.round_medians()),
        size_bytes=size,
        samples=samples,
        input_source=BenchInputs(request.shapes, request.feeds).source,
        notes=(*placement_notes(case.provider, case.cold), *row_notes(samples, request.min_runs, case.streams)),
        streams=case.streams,
        sessions=sessions_of(case, request),
        energy=steady.energies.get(number, NOT_MEASURED),
        options=request.tuned or SessionOptions(),
    )


def placement_notes(provider: str, cold: ColdStart) -> list[str]:
    """What a reader must know of where the nodes ran."""
    if cold.fallback:
        ran = ", ".join(map(short_name, cold.placement))
        return [f"FALLBACK: {provider} was asked for and ran nothing; these figures are of {ran}"]
    if not cold.strays:
        return []
    shown = ", ".join(f"{op} ({count})" for op, count in list(cold.strays.items())[:5])
    return [f"{sum(cold.strays.values())} of {sum(cold.assigned.values())} nodes run on the CPU: {shown}"]


def _report(rows: list[BenchRow], notes: list[str], *, complete: bool) -> BenchReport:
    return BenchReport(tuple(rows), machine.facts(), tuple(notes), complete)
