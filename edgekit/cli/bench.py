"""edgekit bench."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli import bench_output as output
from edgekit.cli import placement, scenario, tuning
from edgekit.cli.command import command, flat, refuse_beside

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
    *,
    where: placement.Placement,
    load: scenario.Scenarios,
    session: tuning.Tuning,
    comparing: output.Comparing,
    files: output.OutputFiles,
) -> None:
    """Measure latency with intervals, cold start, memory, and where every node ran."""
    given = flat(locals())
    session.check()
    if session.tune:
        refuse_beside("--tune", bench, given, tuning.UNDERSTOOD)
    if load.scenario is not None:
        refuse_beside("--scenario", bench, given, scenario.UNDERSTOOD)
    plan, placed = load.plan(min_seconds, streams or ()), where.asked()
    from edgekit.bench import BenchRequest, changes_since, compare_rows, read_report
    from edgekit.data import load_split
    from edgekit.report.benchmark import Findings  # not after Ctrl-C, which has a second

    files.check([*models, *filter(None, [comparing.against, Path(data) if data else None])])
    kept = read_report(comparing.against) if comparing.against else None
    if comparing.wanted:
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
        keep_trace=files.profile is not None,
        compare=comparing.wanted,
        **placed,
        tuned=tuning.read_options(session.session_options, models, provider or ["cpu"]),
    )
    if session.tune:
        return tuning.bench_tune(models, request, session)
    if plan is not None:
        return scenario.bench_scenario(models, request, plan, load.logs)
    report = _measured(models, request)
    found = Findings(
        report,
        comparisons=compare_rows(report) if comparing.wanted else (),
        changes=changes_since(kept, report, comparing.tolerance) if kept else None,
        command=output.typed_command(),
        top=files.operators,
    )
    output.answer(found, files, comparing.require)


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
