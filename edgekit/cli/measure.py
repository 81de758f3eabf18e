"""edgekit eval, bench."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.command import command, emit

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from edgekit.bench import BenchReport


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "eval")(evaluate)
    command(app, "bench")(bench)


def evaluate(
    model: Annotated[Path, typer.Argument(help="An .onnx file, or a checkpoint directory of `edgekit train`.")],
    data: Annotated[str, typer.Option(help="Name of a data set, or an .npz.")],
    metric: Annotated[str, typer.Option(help="`edgekit list metrics` names them.")] = "top1",
    split: Annotated[str, typer.Option(help="train, calibration, validation or test; of a named data set.")] = "test",
    provider: Annotated[str, typer.Option(help="`edgekit list providers` names them.")] = "cpu",
) -> None:
    """Compute a metric of a model on data; the same code judges torch and ONNX."""
    from edgekit.data import load_split
    from edgekit.evaluate import evaluate as judge
    from edgekit.graph.admit import admit_model
    from edgekit.ort import Session
    from edgekit.tasks import find_metric
    from edgekit.training.checkpoint import load_checkpoint

    wanted = find_metric(metric)
    if model.is_dir():
        value = judge(load_checkpoint(model), load_split(data, split), wanted)
    else:
        admit_model(model)
        value = judge(Session(model, provider), load_split(data, split), wanted)
    low, high = value.ci95
    sentence = f"{model}: {value.name} {value.value:.4f} [{low:.4f}, {high:.4f}] on {value.n} samples of {data}"
    emit({"model": str(model), "data": data, "split": split, "metric": value.as_dict()}, lambda: sentence)


def bench(
    models: Annotated[list[Path], typer.Argument(help="One or more .onnx files; they are measured in turns.")],
    provider: Annotated[list[str] | None, typer.Option(help="Execution provider; repeat for several.")] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Batch size; repeat for several.")] = None,
    shape: Annotated[list[str] | None, typer.Option(help="Shape of an input: --shape image=1x3x224x224")] = None,
    data: Annotated[str | None, typer.Option(help="Real inputs: name of a data set, or an .npz.")] = None,
    threads: Annotated[int | None, typer.Option(help="Intra-op threads; all available cores by default.")] = None,
    min_seconds: Annotated[float, typer.Option(help="Measuring time of each row.")] = 2.0,
) -> None:
    """Measure latency with intervals, cold start, memory, and where every node ran."""
    from edgekit.bench import BenchInterrupted, BenchRequest, bench_models
    from edgekit.data import load_split

    request = BenchRequest(
        providers=tuple(provider or ["cpu"]),
        batches=tuple(batch or ()),
        threads=threads,
        shapes=_shapes(shape or ()),
        feeds=dict(load_split(data, "test").arrays) if data else None,
        min_seconds=min_seconds,
    )
    try:
        report = bench_models(models, request)
    except BenchInterrupted as stop:
        report = stop.report
    if report.rows:
        emit(report.as_dict(), lambda: _table(report))
    if not report.complete:
        raise KeyboardInterrupt("the rows above are what was measured until then")


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


def _table(report: BenchReport) -> Group:
    """Two narrow tables rather than one that no terminal is wide enough for."""
    from rich.console import Group

    return Group(_latency_table(report), _cold_table(report), *(f"note: {n}" for n in report.notes))


def _latency_table(report: BenchReport) -> Table:
    from rich.table import Table

    title = f"steady latency on {report.machine['cpu']}, {report.rows[0].threads} threads"
    table = Table(title=title, title_justify="left")
    for column in ("model", "on", "batch", "p50 ms [95 %]", "p90 ms", "p99 ms", "per s", "n"):
        table.add_column(column, justify="left" if column in ("model", "on") else "right", overflow="fold")
    for row in report.rows:
        latency, interval = row.latency_ms, row.latency_ms.ci95_p50
        sure = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else " [n/a]"
        cells = (f"{latency.p50:.3f}{sure}", _or_na(latency.p90), _or_na(latency.p99), f"{row.throughput_per_s:.0f}")
        table.add_row(Path(row.model).name, row.provider, str(row.batch), *cells, str(row.samples.n))
    return table


def _cold_table(report: BenchReport) -> Table:
    from rich.table import Table

    from edgekit.ort import PROVIDERS
    from edgekit.report.comparison import human_bytes

    table = Table(title="cold start, in a process of its own", title_justify="left")
    for column in ("model", "ran on", "batch", "session ms", "first run ms", "peak memory", "size"):
        table.add_column(column, justify="left" if column in ("model", "ran on") else "right", overflow="fold")
    short = {p.ort_name: p.name for p in PROVIDERS.values()}
    for row in report.rows:
        parts = row.cold.placement.items()
        where = ", ".join(f"{short.get(name, name)} {100 * p.time_share:.0f} %" for name, p in parts)
        times = (f"{row.cold.session_ms:.1f}", f"{row.cold.first_run_ms:.2f}", human_bytes(row.cold.peak_rss_bytes))
        table.add_row(Path(row.model).name, where, str(row.batch), *times, human_bytes(row.size_bytes))
    return table


def _or_na(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
