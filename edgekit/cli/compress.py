"""edgekit quantize."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from edgekit.cli.command import command, emit, refuse

if TYPE_CHECKING:
    from rich.table import Table

    from edgekit.compress import Target
    from edgekit.search import QuantizeReport
    from edgekit.search.proof import Latency


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "quantize")(quantize)


def quantize(
    model: Annotated[Path, typer.Argument(help="An .onnx file.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    method: Annotated[str, typer.Option(help="auto, or a method of `edgekit list techniques`.")] = "auto",
    calibration: Annotated[str | None, typer.Option(help="Data to observe activations on: a name or an .npz.")] = None,
    evaluation: Annotated[
        str | None, typer.Option("--eval", help="Labelled data to choose by: a name or an .npz.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Metric on --eval; top1 by default, for text that of the task.")
    ] = None,
    max_drop: Annotated[
        float | None, typer.Option(min=0, help="Largest allowed loss of the metric; exit 3 beyond.")
    ] = None,
    target: Annotated[str, typer.Option(help="cpu, cpu-no-vnni, arm, cuda, tensorrt or web.")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads that latency is measured with.")] = None,
) -> None:
    """Quantise any ONNX file, with the proof of what it costs and gains."""
    from edgekit.generate.files import split_for, usual_metric
    from edgekit.search import QuantizeRequest, quantize_model
    from edgekit.search.request import AUTO
    from edgekit.tasks import find_metric

    request = QuantizeRequest(
        model=model,
        out=out,
        method=method,
        calibration=split_for(model, calibration, "calibration") if calibration else None,
        evaluation=split_for(model, evaluation, "validation") if evaluation else None,
        test=split_for(model, evaluation, "test") if evaluation and _has_test(evaluation) else None,
        metric=find_metric(metric or usual_metric(model, evaluation)) if evaluation else None,
        max_drop=max_drop,
        target=_target(target),
        threads=threads,
    )
    report = quantize_model(request)
    emit({"out": str(out), **report.as_dict()}, lambda: _table(report, out))
    if report.status == "unchanged" and method != AUTO:
        refuse(f"method {method!r} could not be had: {report.reason}; {out} is a copy of the original")
    if report.floor_met is False:
        drop = report.proof.quality.drop
        refuse(
            f"{report.proof.quality.name} drops by {drop:.4g}, more than --max-drop {max_drop}; {out} holds the result"
        )


def _has_test(data: str) -> bool:
    """Whether the data has a split that nothing was chosen on."""
    from edgekit.data import SOURCES, is_text

    return data in SOURCES or is_text(data)


def _target(name: str) -> Target:
    from typing import get_args

    from edgekit.compress import Target
    from edgekit.errors import CompressError, unknown

    if name not in get_args(Target):
        raise CompressError(unknown("target", name, get_args(Target)))
    return cast("Target", name)


def _table(report: QuantizeReport, out: Path) -> Table:
    from rich.table import Table

    from edgekit.report.comparison import human_bytes

    proof, latency, quality = report.proof, report.proof.latency, report.proof.quality
    table = Table(title=f"{out}: {report.status}, {report.method}", title_justify="left", caption=report.reason)
    for column in ("", "before", "after", "change"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row(
        "size", human_bytes(proof.size_before), human_bytes(proof.size_after), f"{proof.size_ratio:.2f}x smaller"
    )
    table.add_row("latency", *latency_cells(latency))
    name = f"{quality.name}{' (proxy, no labels)' if quality.proxy else ''}"
    table.add_row(
        name, f"{quality.before:.4f}", f"{quality.after:.4f}", f"{0.0 - quality.drop:+.4f} on {quality.n} samples"
    )
    table.add_row("left in float", "", str(len(report.excluded_nodes)), _reasons(report))
    for attempt in report.attempts if len(report.attempts) > 1 else ():
        table.add_row(f"tried {attempt.candidate.name}", "", "", attempt.outcome)
    return table


def latency_cells(latency: Latency) -> tuple[str, str, str]:
    """Before, after and the change, as a table shows them."""
    if latency.before is None or latency.after is None or latency.speedup is None:
        return "-", "-", latency.verdict
    interval = latency.ci95
    sure = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
    return f"{latency.before:.3f} ms", f"{latency.after:.3f} ms", f"{latency.speedup:.2f}x as fast{sure}"


def _reasons(report: QuantizeReport) -> str:
    from collections import Counter

    counted: Counter[Any] = Counter(n.reason for n in report.excluded_nodes)
    return "; ".join(f"{count}: {reason}" for reason, count in counted.most_common(3))
