"""edgekit prune."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.command import command, emit, flat, refuse, refuse_beside, usual_values
from edgekit.cli.judging import Metric, judged_by
from edgekit.cli.prune_checkpoint import prune_directory

if TYPE_CHECKING:
    from edgekit.compress.prune.onnx_channels import OnnxChannelsConfig

_HOW, _CHECKPOINT = "How", "Of a checkpoint"
_OF_STEPS = ("ratio", "macs", "latency", "importance", "allocation", "round_to", "samples")
_OF_FILES = ("ratio", "macs", "importance", "allocation", "round_to", "samples", "reconstruct")
_OF_CHECKPOINTS = {*_OF_STEPS, "source", "out", "method", "data", "max_drop", "threads", "epochs", "settings"}


@dataclass(frozen=True)
class Removal:
    """The flags of what is removed, and how."""

    importance: Annotated[
        str,
        typer.Option(
            help="auto, reconstruction, energy, l1, l2 or bn-scale; of a checkpoint also taylor, hessian or random.",
            rich_help_panel=_HOW,
        ),
    ] = "auto"
    allocation: Annotated[str, typer.Option(help="auto, sensitivity, global or layer.", rich_help_panel=_HOW)] = "auto"
    round_to: Annotated[int, typer.Option(help="Channels that stay are a multiple of this.", rich_help_panel=_HOW)] = 8
    samples: Annotated[int, typer.Option(help="Most calibration samples to look at.", rich_help_panel=_HOW)] = 1024
    reconstruct: Annotated[
        bool, typer.Option(help="Fit layers behind removed channels on --data.", rich_help_panel=_HOW)
    ] = True
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads that latency is measured with.", rich_help_panel=_HOW)
    ] = None


@dataclass(frozen=True)
class FineTuning:
    """The flags that only a checkpoint understands."""

    epochs: Annotated[
        int | None, typer.Option(min=0, help="Of fine-tuning; 0 for none.", rich_help_panel=_CHECKPOINT)
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Any key of the recipe's step: --set steps=3 --set finetune.learning_rate=1e-3",
            rich_help_panel=_CHECKPOINT,
        ),
    ] = None


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "prune")(prune)


def prune(
    source: Annotated[Path, typer.Argument(help="An .onnx file, or a checkpoint directory of edgekit.")],
    out: Annotated[Path, typer.Option(help="The file, or the checkpoint directory, to write.")],
    method: Annotated[
        str,
        typer.Option(
            help="channels; of a checkpoint also heads, layers, magnitude or nm; vocabulary: tokens that --data lacks."
        ),
    ] = "channels",
    ratio: Annotated[float | None, typer.Option(help="Share of the channels to remove, between 0 and 1.")] = None,
    macs: Annotated[
        float | None, typer.Option(help="Instead: how many times fewer multiply-accumulates, such as 1.5.")
    ] = None,
    latency: Annotated[float | None, typer.Option(help="Instead: how many times as fast, measured here.")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Data, a name or an .npz: what is left is fitted, or a checkpoint fine-tuned, on it."),
    ] = None,
    evaluation: Annotated[
        str | None, typer.Option("--eval", help="Labelled data to judge by: a name or an .npz.")
    ] = None,
    metric: Metric = None,
    max_drop: Annotated[
        float | None,
        typer.Option(min=0, help="Largest allowed loss of the metric; alone: as small as that allows. Exit 3 beyond."),
    ] = None,
    *,
    how: Removal,
    tuning: FineTuning,
) -> None:
    """Remove channels of a model for good, with the proof of what it costs and gains."""
    given = flat(locals())
    if source.is_dir():
        refuse_beside("a checkpoint", prune, given, _OF_CHECKPOINTS)
        options = _step_of(given, tuning)
        return prune_directory(source, out, data, method, options, max_drop=max_drop, threads=how.threads)
    if method == "vocabulary":
        refuse_beside("--method vocabulary", prune, given, ("source", "out", "method", "data"))
        return _trim_vocabulary(source, out, data)
    refuse_beside("an .onnx file", prune, given, given.keys() - FineTuning.__dataclass_fields__)
    _require_onnx(source, method)
    from edgekit.generate.files import split_for
    from edgekit.report.compression import pruning_table
    from edgekit.search.prune import PruneRequest, prune_model

    request = PruneRequest(
        model=source,
        out=out,
        config=_config(given),
        data=split_for(source, data, "calibration") if data else None,
        **judged_by(source, evaluation, metric),
        max_drop=max_drop,
        latency=latency,
        threads=how.threads,
    )
    report = prune_model(request)
    emit({"out": str(out), **report.as_dict()}, lambda: pruning_table(report, out))
    if report.status == "unchanged":
        refuse(f"{report.reason}; {out} is a copy of the original")


def _step_of(given: Mapping[str, Any], tuning: FineTuning) -> dict[str, Any]:
    """What flags say of a recipe's step; flags at their defaults say nothing."""
    from edgekit.recipe.source import assigned

    usual = usual_values(prune)
    said = {name: given[name] for name in _OF_STEPS if given[name] != usual[name]}
    if tuning.epochs is not None:
        said["finetune"] = {"epochs": tuning.epochs} if tuning.epochs else None
    return assigned(said, tuning.settings or ())


def _trim_vocabulary(source: Path, out: Path, data: str | None) -> None:
    """Leave the tokens out that the texts of a corpus or file do not use."""
    from edgekit.cli.texts import shown_facts, texts_from
    from edgekit.compress.prune.vocabulary import trim_vocabulary

    if data is None:
        raise typer.BadParameter("--method vocabulary keeps the tokens of your texts; name them: --data texts.txt")
    trim = {"out": str(out), **trim_vocabulary(source, out, texts_from("--data", data)).as_dict()}
    emit(trim, lambda: shown_facts(trim))


def _require_onnx(source: Path, method: str) -> None:
    from edgekit.errors import CompressError, unknown

    if method != "channels":
        raise CompressError(unknown("method", method, ["channels", "vocabulary"]) + " for an .onnx file")


def _config(given: Mapping[str, Any]) -> OnnxChannelsConfig:
    """The config, or what is wrong with the options in one line."""
    from pydantic import ValidationError

    from edgekit.compress.prune.onnx_channels import OnnxChannelsConfig
    from edgekit.errors import CompressError

    try:
        return OnnxChannelsConfig(**{name: given[name] for name in _OF_FILES})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])).replace("_", "-")
        said = str(first["msg"]).removeprefix("Value error, ")
        raise CompressError(f"--{name}: {said[0].lower()}{said[1:]}, got {first['input']}" if name else said) from None
