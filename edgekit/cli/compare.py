"""edgekit compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.command import command, emit, refuse


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "compare")(compare)


def compare(
    models: Annotated[
        list[Path], typer.Argument(help="Two .onnx files or more; the first is the measure of the others.")
    ],
    data: Annotated[str, typer.Option(help="Name of a data set, or an .npz.")],
    split: Annotated[str, typer.Option(help="train, calibration, validation or test; of a named data set.")] = "test",
    metric: Annotated[
        str | None, typer.Option(help="By default that of the task; `edgekit list metrics` names them.")
    ] = None,
    provider: Annotated[str, typer.Option(help="`edgekit list providers` names them.")] = "cpu",
    judge: Annotated[
        str | None, typer.Option(help="Data set whose classifier judges generated pictures; --data by default.")
    ] = None,
    latency: Annotated[bool, typer.Option("--latency", help="Measure it too, at batch 1.")] = False,
    max_drop: Annotated[
        float | None,
        typer.Option(min=0, help="Exit 3 if a model is worse than the first by more, in the metric's unit."),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the table and pictures of what differs as one page.")] = None,
) -> None:
    """Compare models with the first: accuracy, agreement, size, and what they look at."""
    if len(models) < 2:
        raise typer.BadParameter("compare needs two models or more; `edgekit eval` judges one")
    from rich.console import Group

    from edgekit.comparison import CompareRequest, compare_models
    from edgekit.files import check_output
    from edgekit.report.compared import comparison_sheets, write_comparison
    from edgekit.report.sheets import FittedTable

    if html is not None:
        check_output(html, *models, *([Path(data)] if Path(data).is_file() else []))
    request = CompareRequest(data, split, metric, provider, judge, latency, pictures=html is not None)
    found = compare_models(models, request)
    if html is not None:
        write_comparison(html, found)
    emit(found.as_dict(), lambda: Group(*map(FittedTable, comparison_sheets(found))))
    if max_drop is not None:
        _conclude(found.worse_than(max_drop), max_drop)


def _conclude(worse: list[str], max_drop: float) -> None:
    if worse:
        refuse(f"worse than the first by more than {max_drop:g}: {', '.join(worse)}")
