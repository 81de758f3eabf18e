"""edgekit bench."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli import bench_output as output
from edgekit.cli import placement, tuning
from edgekit.cli import scenario as loadgen
from edgekit.cli.command import command, refuse_beside

if TYPE_CHECKING:
    from edgekit.bench import BenchReport, BenchRequest


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "bench")(bench)


def bench(
    models: Annotated[list[Path], typer.Argument(help="One or more .onnx files; they are measured in turns.")],
    provider: Annotated[list[str] | None, typer.Option(help="Execution provider; repeat for several.")] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Batch size; repeat for several.")] = None,
    shape: Annotated[list[str] | None, typer.Option(help="Shape of an input: --shape image=1x3x224x224")] = None,
    data: Annotated[str | None, typer.Option(help="Real inputs: name of a data set, or an .npz.")] = None,
    threads: Annotated[int | None, typer.Option(help="Intra-op threads; all available cores by default.")] = None,
    streams: Annotated[list[int] | None, typer.Option(help="Callers at the same time; repeat for several.")] = None,
    session_per_stream: Annotated[bool, typer.Option(help="A session for each stream; they share one else.")] = False,
    min_seconds: Annotated[
        float | None, typer.Option(help="Measuring time of each row, 2 by default; of a scenario, 10.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds after which a start or a run counts as hung.")] = 600.0,
    device: placement.Device = None,
    allow_fallback: placement.AllowFallback = False,
    strict_placement: placement.StrictPlacement = False,
    io_binding: placement.IoBinding = None,
    trt_profile: placement.TrtProfile = None,
    scenario: loadgen.Name = None,
    min_queries: loadgen.MinQueries = None,
    target_qps: loadgen.TargetQps = None,
    latency_bound_ms: loadgen.LatencyBound = None,
    samples_per_query: loadgen.SamplesPerQuery = None,
    mlperf: loadgen.Mlperf = False,
    logs: loadgen.Logs = None,
    tune: tuning.Tune = False,
    objective: tuning.Goal = None,
    tune_seconds: tuning.Seconds = None,
    out: tuning.Out = None,
    session_options: tuning.Options = None,
    compare: output.Compare = False,
    require: output.Require = None,
    against: output.Against = None,
    tolerance: output.Tolerance = None,
    csv: output.Csv = None,
    markdown: output.Markdown = None,
    html: output.Html = None,
    samples: output.SampleFile = None,
    with_samples: output.WithSamples = False,
    profile: output.Profile = None,
    top: output.Top = None,
) -> None:
    """Measure latency with intervals, cold start, memory, and where every node ran."""
    tuning.check_flags(tune, objective=objective, tune_seconds=tune_seconds, out=out)
    if tune:
        refuse_beside("--tune", bench, locals(), tuning.UNDERSTOOD)
    if scenario is not None:
        refuse_beside("--scenario", bench, locals(), loadgen.UNDERSTOOD)
    plan = loadgen.plan_of(
        scenario,
        mlperf=mlperf,
        min_seconds=min_seconds,
        min_queries=min_queries,
        streams=streams,
        logs=logs,
        target_qps=target_qps,
        latency_bound_ms=latency_bound_ms,
        samples_per_query=samples_per_query,
    )
    where = placement.placement_of(
        device=device,
        allow_fallback=allow_fallback,
        strict_placement=strict_placement,
        io_binding=io_binding,
        ranges=trt_profile or [],
    )
    from edgekit.bench import BenchRequest, changes_since, compare_rows, read_report
    from edgekit.data import load_split
    from edgekit.report.benchmark import Findings

    compare = compare or require is not None
    files = output.OutputFiles(csv, markdown, html, samples, profile)
    files.check([*models, *filter(None, [against, Path(data) if data else None])])
    kept = read_report(against) if against else None
    if compare:
        _require_comparable(models)
    request = BenchRequest(
        providers=tuple(provider or ["cpu"]),
        batches=tuple(batch or ()),
        threads=threads,
        streams=tuple(streams or (1,)),
        session_per_stream=session_per_stream,
        shapes=_shapes(shape or ()),
        feeds=dict(load_split(data, "test").arrays) if data else None,
        min_seconds=BenchRequest.min_seconds if min_seconds is None else min_seconds,
        timeout_s=timeout,
        keep_trace=profile is not None,
        compare=compare,
        **where,
        tuned=tuning.read_options(session_options, models, provider or ["cpu"]),
    )
    if tune:
        return tuning.bench_tune(models, request, objective, tune_seconds, out)
    if plan is not None:
        return loadgen.bench_scenario(models, request, plan, logs)
    report = _measured(models, request)
    findings = Findings(
        report,
        comparisons=compare_rows(report) if compare else (),
        changes=changes_since(kept, report, tolerance) if kept else None,
        command=output.typed_command(),
        top=output.shown_operators(top, profile),
    )
    output.answer(findings, files, with_samples=with_samples, require=require)


def _measured(models: list[Path], request: BenchRequest) -> BenchReport:
    """The report; the part that was measured, where a person stopped it."""
    from edgekit.bench import BenchInterrupted, bench_models

    try:
        return bench_models(models, request)
    except BenchInterrupted as stop:
        return stop.report


def _require_comparable(models: list[Path]) -> None:
    from edgekit.bench import refuse_other_signatures

    if len(models) < 2:
        raise typer.BadParameter("--compare needs two models or more: the first is what the others are compared with")
    refuse_other_signatures(models)


def _shapes(texts: list[str] | tuple[()]) -> dict[str, tuple[int, ...]]:
    """`name=1x3x224x224` -> name and dimensions."""
    from edgekit.errors import ModelError

    shapes = {}
    for text in texts:
        name, equals, dims = text.rpartition("=")
        parts = dims.lower().split("x")
        if not equals or not name or not all(p.isdigit() and int(p) > 0 for p in parts):
            raise ModelError(
                f"--shape {text}: got no name=AxBxC of whole numbers above 0; write it as --shape image=1x3x224x224"
            )
        shapes[name] = tuple(int(p) for p in parts)
    return shapes
