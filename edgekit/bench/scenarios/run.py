"""Scenarios from request to report; LoadGen itself runs in a child process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit import machine
from edgekit.bench.engine import engine_of
from edgekit.bench.inputs import BenchInputs
from edgekit.bench.noise import Moment, disturbances, look, thread_notes
from edgekit.bench.question import ask, question_of
from edgekit.bench.records import BenchRequest
from edgekit.bench.scenarios import logs as reading
from edgekit.bench.scenarios.child import require_loadgen
from edgekit.bench.scenarios.records import LoadPlan, ScenarioReport, ScenarioResult
from edgekit.files import make_directory, write_text
from edgekit.graph.read import size_bytes
from edgekit.ort.archive import archived
from edgekit.progress import waiting

_WEEK_S = 7 * 86400.0  # the child watches each run itself; how long LoadGen takes is for its settings to say


class ScenariosInterrupted(KeyboardInterrupt):
    """The user stopped; `report` holds the runs that were finished."""

    def __init__(self, report: ScenarioReport) -> None:
        super().__init__("scenarios interrupted")
        self.report = report


def run_scenarios(
    models: Sequence[Path], request: BenchRequest, plan: LoadPlan, *, logs: Path | None = None
) -> ScenarioReport:
    """Put models under LoadGen, one after the other.

    Args:
        models: Paths of .onnx files.
        request: Providers, batches, threads, shapes, data, seed and `timeout_s`, after which a run hangs.
        plan: The scenario.
        logs: A directory for LoadGen's own logs, one below it for each run.

    Raises:
        MissingPackageError: if LoadGen is not installed.
        ModelError: if a model is not there, does not load, crashes, hangs, or does not take the batch or the shapes.
        ProviderError: if a provider is unknown, not in the installed ONNX Runtime, or does not load.
        ScenariosInterrupted: when the user stops it; its `report` holds what was finished.
    """
    require_loadgen()
    request.check()
    plan.check()
    for model in models:
        size_bytes(model)
    wanted = [(m, p, b) for p in dict.fromkeys(request.providers) for m in models for b in request.batches or (None,)]
    results: list[ScenarioResult] = []
    try:
        for model, provider, batch in wanted:
            folder = None if logs is None else logs / f"{len(results) + 1:02}-{model.stem}-{provider}-{plan.scenario}"
            results.append(_one(model, provider, batch, request, plan, folder))
    except KeyboardInterrupt:
        raise ScenariosInterrupted(_report(results, request, complete=False)) from None
    return _report(results, request, complete=True)


def _report(results: list[ScenarioResult], request: BenchRequest, *, complete: bool) -> ScenarioReport:
    notes = [*thread_notes(request.thread_count)]
    notes += [] if request.tuned is None else [f"session options: {request.tuned}"]
    return ScenarioReport(tuple(results), machine.facts(), complete, tuple(notes))


def _one(
    model: Path, provider: str, batch: int | None, request: BenchRequest, plan: LoadPlan, folder: Path | None
) -> ScenarioResult:
    before = _look()
    text = f"{plan.scenario}: {model.name} on {provider}, at least {plan.min_seconds:g} s"
    with archived(request.feeds) as archive, waiting(text):
        question = {
            **question_of(model, provider, batch, request, engine_of(model, provider, request), archive),
            "title": str(model),
            "timeout_s": request.timeout_s,
            "plan": vars(plan),
        }
        answer = ask("edgekit.bench.scenarios.child", question, model, _WEEK_S)
    notes = tuple(disturbances(before, _look()))
    if folder is not None:
        make_directory(folder)
        write_text(folder / "mlperf_log_summary.txt", answer["summary"])
        write_text(folder / "mlperf_log_detail.txt", answer["detail"])
    return _result(model, provider, request, plan, answer, notes, folder)


def _result(
    model: Path,
    provider: str,
    request: BenchRequest,
    plan: LoadPlan,
    answer: dict[str, Any],
    notes: tuple[str, ...],
    folder: Path | None,
) -> ScenarioResult:
    detail = reading.read_detail(answer["detail"])
    return ScenarioResult(
        model=str(model),
        provider=provider,
        providers_used=tuple(answer["providers_used"]),
        scenario=plan.scenario,
        valid=detail["result_validity"] == "VALID",
        reasons=reading.reasons(detail, answer["summary"]),
        figure=reading.figure(detail, plan.scenario),
        early_stopping_ms=reading.early_stopping_ms(detail, plan.scenario),
        latency_ms=reading.latencies_ms(detail, plan.scenario),
        per_second=reading.rates(detail),
        queries=detail["result_query_count"],
        completed_samples=detail["result_query_count"] * detail["generated_samples_per_query"],
        threads=request.thread_count,
        input_source=BenchInputs(request.shapes, request.feeds).source,
        notes=(*notes, *_filled(answer["fixed"], plan)),
        logs=None if folder is None else str(folder),
        **{key: answer[key] for key in ("batch", "run_ms", "settings", "samples", "inputs", "streams", "loadgen")},
    )


def _filled(fixed: int | None, plan: LoadPlan) -> list[str]:
    """A note where a model that fixes its batch computes more than was asked for."""
    if fixed in (None, 1):
        return []
    return [f"the model fixes the batch at {fixed}: queries of fewer samples take the time of {fixed}"]


def _look() -> Moment:
    """The counters with the time of finished children as our own, since the measured one is among them."""
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    return replace(look(), own_s=own)
