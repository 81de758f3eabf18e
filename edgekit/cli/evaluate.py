"""edgekit eval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.command import command, emit

if TYPE_CHECKING:
    from edgekit.data import Split
    from edgekit.evaluate import Runner


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "eval")(evaluate)


def evaluate(
    model: Annotated[Path, typer.Argument(help="An .onnx file, or a checkpoint directory of `edgekit train`.")],
    data: Annotated[str, typer.Option(help="Name of a data set, or an .npz.")],
    metric: Annotated[
        str | None,
        typer.Option(help="`edgekit list metrics` names them; by default that of the model's task, else top1."),
    ] = None,
    split: Annotated[str, typer.Option(help="train, calibration, validation or test; of a named data set.")] = "test",
    provider: Annotated[str, typer.Option(help="`edgekit list providers` names them.")] = "cpu",
    attack: Annotated[str | None, typer.Option(help="Judge under attack: fgsm or pgd.")] = None,
    epsilon: Annotated[float | None, typer.Option(help="Most that a pixel between 0 and 1 changes.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of pgd.")] = None,
    attacked_on: Annotated[
        Path | None, typer.Option(help="Checkpoint directory of the model that the attack knows.")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="Data set whose classifier judges generated pictures; --data by default."),
    ] = None,
) -> None:
    """Compute a metric of a model on data; the same code judges torch and ONNX."""
    from edgekit.data import is_text, load_split, refuse_longer
    from edgekit.evaluate import evaluate as measure
    from edgekit.generate.files import tokenizers_of
    from edgekit.judge import bind_judge
    from edgekit.tasks import TASKS, find_metric

    runner, task = _runner(model, provider)
    name = metric or (TASKS[task].metric if task in TASKS else "top1")
    bound = bind_judge(find_metric(name), judge or data)
    tokenizer = tokenizers_of(model, runner) if is_text(data) else None
    samples = load_split(data, split, task=task, inputs=runner.inputs, tokenizer=tokenizer)
    samples = refuse_longer(samples, _longest(runner), str(model)) if tokenizer else samples
    options = {"attack": attack, "epsilon": epsilon, "steps": steps}
    samples, under = _attacked(samples, options, attacked_on or model)
    value = measure(runner, samples, bound)
    low, high = value.ci95
    sentence = f"{model}: {value.name} {value.value:.4f} [{low:.4f}, {high:.4f}] on {value.n} samples of {data}"
    content = {"model": str(model), "data": data, "split": split, "metric": value.as_dict(), **under}
    emit(content, lambda: sentence + (f", attacked by {attack}" if under else ""))


def _longest(runner: Runner) -> int | None:
    """The longest text that a model takes; None where it has no limit or says none."""
    from edgekit.data import longest_told
    from edgekit.training.checkpoint import TrainedModel

    if isinstance(runner, TrainedModel):
        return runner.card.limits.get("length")
    return longest_told(getattr(runner, "metadata", {}))


def _attacked(split: Split, options: dict[str, Any], known: Path) -> tuple[Split, dict[str, Any]]:
    """The split, attacked if that was asked for, and what the answer says of the attack."""
    from pydantic import ValidationError

    from edgekit.load import open_checkpoint
    from edgekit.training.attacks import attacked
    from edgekit.training.config import AttackConfig

    given = {name: value for name, value in options.items() if value is not None}
    if "attack" not in given:
        if given:
            raise typer.BadParameter(f"--{next(iter(given))} goes with --attack")
        return split, {}
    if known.is_file():
        raise typer.BadParameter("an attack on an .onnx file needs the checkpoint that it knows: --attacked-on DIR")
    try:
        config = AttackConfig(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise typer.BadParameter(f"--{first['loc'][0]}: {first['msg']}, got {first['input']!r}") from None
    found = attacked(open_checkpoint(known), split, config)
    return found, {"attack": {**config.model_dump(mode="json"), "attacked_on": str(known)}}


def _runner(model: Path, provider: str) -> tuple[Runner, str]:
    """What runs the model, and the name of its task; "" where the file does not say."""
    from edgekit.data import our_task
    from edgekit.graph.admit import admit_model
    from edgekit.load import open_checkpoint
    from edgekit.ort import Session

    if model.is_dir():
        trained = open_checkpoint(model)
        return trained, trained.card.task
    admit_model(model)
    session = Session(model, provider)
    return session, our_task(session.metadata.get("edgekit.task", ""))
