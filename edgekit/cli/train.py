"""edgekit train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.command import command, emit


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "train")(train)


def train(
    family: Annotated[str, typer.Argument(help="Model family; `edgekit list families` names them.")],
    data: Annotated[str, typer.Option(help="Name of a data set, or an .npz with labels.")],
    out: Annotated[Path, typer.Option(help="Checkpoint directory to write.")],
    size: Annotated[str, typer.Option(help="pico, small or base.")] = "small",
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    patience: Annotated[int | None, typer.Option(min=1, help="Stop after so many epochs without gain.")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    accelerator: Annotated[str | None, typer.Option(help="Lightning's accelerator.")] = None,
    devices: Annotated[int | None, typer.Option(min=1, help="Lightning's devices.")] = None,
    num_nodes: Annotated[int | None, typer.Option(min=1, help="Machines; each runs this command.")] = None,
    strategy: Annotated[str | None, typer.Option(help="Lightning's strategy, such as ddp.")] = None,
    precision: Annotated[str | None, typer.Option(help="Lightning's precision, such as bf16-mixed; or auto.")] = None,
    init: Annotated[Path | None, typer.Option(help="Checkpoint directory to start from.")] = None,
    freeze: Annotated[
        list[str] | None, typer.Option(help="Parameters to keep as they are, by name or pattern: --freeze 'features.*'")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any key of a recipe's `train`: --set augment.shift=2 --set ema=0.999"),
    ] = None,
) -> None:
    """Train a model; the same command goes on where an interrupted one stopped."""
    from edgekit.judge import judged_metric
    from edgekit.recipe.source import assigned
    from edgekit.training.request import train_family

    given = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "patience": patience,
        "seed": seed,
        "accelerator": accelerator,
        "devices": devices,
        "num_nodes": num_nodes,
        "strategy": strategy,
        "precision": precision,
        "init": str(init) if init else None,
        "freeze": freeze or None,
    }
    options = assigned({k: v for k, v in given.items() if v is not None}, settings or ())
    result = train_family(family, size, data, out, options, metric=judged_metric(family, data))
    metric = result["validation"]
    emit(result, lambda: f"{out}: {metric['name']} {metric['value']:.4f} on validation data")
