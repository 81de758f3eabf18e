"""edgekit distill."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli.command import command, emit


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "distill")(distill)


def distill(
    teacher: Annotated[
        list[str],
        typer.Option(help="Checkpoint or Hugging Face directory, or .onnx file; several are an ensemble."),
    ],
    data: Annotated[str, typer.Option(help="Name of a data set, or an .npz, with labels or without.")],
    out: Annotated[Path, typer.Option(help="Checkpoint directory to write.")],
    student: Annotated[str, typer.Option(help="FAMILY:SIZE, such as resnet:pico.")] = "",
    layers: Annotated[str, typer.Option(help="The student is these blocks of the teacher: 0,2,5")] = "",
    method: Annotated[
        str, typer.Option(help="logits, decoupled, features, transformer, relation, outputs or sequences.")
    ] = "logits",
    temperature: Annotated[float | None, typer.Option(help="Logits of both are divided by it.")] = None,
    weight: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the teacher's loss; the rest is of the labels.")
    ] = None,
    also: Annotated[list[str] | None, typer.Option(help="A further loss; more than once for several.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any key of a recipe's step: --set train.augment.flip=true --set also.features=10"),
    ] = None,
) -> None:
    """Train a small model on what a large one says; the same command goes on where an interrupted one stopped."""
    from edgekit.compress.distill.request import DistillRequest, distil_model
    from edgekit.judge import judged_metric
    from edgekit.recipe.source import assigned

    trained = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    schedule = {k: v for k, v in trained.items() if v is not None}
    given: dict[str, Any] = {
        "temperature": temperature,
        "weight": weight,
        "also": also or None,
        "layers": _numbers(layers),
        "train": schedule or None,
    }
    options = assigned({k: v for k, v in given.items() if v is not None}, settings or ())
    metric = judged_metric(student.partition(":")[0], data)
    result = distil_model(DistillRequest(teacher, student, data, out, method, options, metric))
    found, judge = result["validation"], "the teacher's answers" if result["labels"] == "teacher" else "labels"
    emit(result, lambda: f"{out}: {found['name']} {found['value']:.4f} on validation data, against {judge}")


def _numbers(text: str) -> list[int] | None:
    try:
        return [int(part) for part in text.split(",")] if text else None
    except ValueError:
        raise typer.BadParameter(f"--layers takes numbers with commas between, such as 0,2,5; got {text!r}") from None
