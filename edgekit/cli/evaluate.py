"""edgekit eval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.command import command, emit


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "eval")(evaluate)


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
