"""edgekit quantize."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from edgekit.cli.command import command, emit, refuse
from edgekit.cli.judging import Metric, judged_by

if TYPE_CHECKING:
    from edgekit.compress import Target


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
    metric: Metric = None,
    max_drop: Annotated[
        float | None, typer.Option(min=0, help="Largest allowed loss of the metric; exit 3 beyond.")
    ] = None,
    target: Annotated[str, typer.Option(help="cpu, cpu-no-vnni, arm, cuda, tensorrt or web.")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads that latency is measured with.")] = None,
) -> None:
    """Quantise any ONNX file, with the proof of what it costs and gains."""
    from edgekit.generate.files import split_for
    from edgekit.report.compression import quantising_table
    from edgekit.search import QuantizeRequest, quantize_model
    from edgekit.search.request import AUTO

    request = QuantizeRequest(
        model=model,
        out=out,
        method=method,
        calibration=split_for(model, calibration, "calibration") if calibration else None,
        **judged_by(model, evaluation, metric),
        max_drop=max_drop,
        target=_target(target),
        threads=threads,
    )
    report = quantize_model(request)
    emit({"out": str(out), **report.as_dict()}, lambda: quantising_table(report, out))
    if report.status == "unchanged" and method != AUTO:
        refuse(f"method {method!r} could not be had: {report.reason}; {out} is a copy of the original")
    if report.floor_met is False:
        drop = report.proof.quality.drop
        refuse(
            f"{report.proof.quality.name} drops by {drop:.4g}, more than --max-drop {max_drop}; {out} holds the result"
        )


def _target(name: str) -> Target:
    from typing import get_args

    from edgekit.compress import Target
    from edgekit.errors import CompressError, unknown

    if name not in get_args(Target):
        raise CompressError(unknown("target", name, get_args(Target)))
    return cast("Target", name)
