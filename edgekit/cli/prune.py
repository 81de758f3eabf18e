"""edgekit prune."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.command import command, emit, refuse, refuse_beside
from edgekit.cli.prune_checkpoint import prune_directory

if TYPE_CHECKING:
    from rich.table import Table

    from edgekit.compress.prune.onnx_channels import OnnxChannelsConfig
    from edgekit.search.prune import PruneReport

_MOST_KEPT = 5
_OF_STEPS = ("ratio", "macs", "latency", "importance", "allocation", "round_to", "samples")
_OF_CHECKPOINTS = {*_OF_STEPS, "source", "out", "method", "data", "max_drop", "threads", "epochs", "settings"}


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
    metric: Annotated[
        str | None, typer.Option(help="Metric on --eval; top1 by default, for text that of the task.")
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(min=0, help="Largest allowed loss of the metric; alone: as small as that allows. Exit 3 beyond."),
    ] = None,
    importance: Annotated[
        str,
        typer.Option(
            help="auto, reconstruction, energy, l1, l2 or bn-scale; of a checkpoint also taylor, hessian or random.",
            rich_help_panel="How",
        ),
    ] = "auto",
    allocation: Annotated[
        str, typer.Option(help="auto, sensitivity, global or layer.", rich_help_panel="How")
    ] = "auto",
    round_to: Annotated[
        int, typer.Option(help="Channels that stay are a multiple of this.", rich_help_panel="How")
    ] = 8,
    samples: Annotated[int, typer.Option(help="Most calibration samples to look at.", rich_help_panel="How")] = 1024,
    reconstruct: Annotated[
        bool, typer.Option(help="Fit layers behind removed channels on --data.", rich_help_panel="How")
    ] = True,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads that latency is measured with.", rich_help_panel="How")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=0, help="Of fine-tuning; 0 for none.", rich_help_panel="Of a checkpoint")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Any key of the recipe's step: --set steps=3 --set finetune.learning_rate=1e-3",
            rich_help_panel="Of a checkpoint",
        ),
    ] = None,
) -> None:
    """Remove channels of a model for good, with the proof of what it costs and gains."""
    given = dict(locals())
    if source.is_dir():
        refuse_beside("a checkpoint", prune, given, _OF_CHECKPOINTS)
        options = _step_of(given)
        prune_directory(source, out, data, method, options, max_drop=max_drop, threads=threads)
        return
    if method == "vocabulary":
        refuse_beside("--method vocabulary", prune, given, ("source", "out", "method", "data"))
        _trim_vocabulary(source, out, data)
        return
    refuse_beside("an .onnx file", prune, given, given.keys() - {"epochs", "settings"})
    from edgekit.compress.prune.onnx_channels import OnnxChannelsConfig
    from edgekit.generate.files import split_for, usual_metric
    from edgekit.search.prune import PruneRequest, prune_model
    from edgekit.tasks import find_metric

    _require_onnx(source, method)
    config = _config(
        OnnxChannelsConfig,
        ratio=ratio,
        macs=macs,
        importance=importance,
        allocation=allocation,
        round_to=round_to,
        samples=samples,
        reconstruct=reconstruct,
    )
    request = PruneRequest(
        model=source,
        out=out,
        config=config,
        data=split_for(source, data, "calibration") if data else None,
        evaluation=split_for(source, evaluation, "validation") if evaluation else None,
        test=split_for(source, evaluation, "test") if evaluation and _has_test(evaluation) else None,
        metric=find_metric(metric or usual_metric(source, evaluation)) if evaluation else None,
        max_drop=max_drop,
        latency=latency,
        threads=threads,
    )
    report = prune_model(request)
    emit({"out": str(out), **report.as_dict()}, lambda: _table(report, out))
    if report.status == "unchanged":
        refuse(f"{report.reason}; {out} is a copy of the original")


def _step_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """What flags say of a recipe's step; flags at their defaults say nothing."""
    from edgekit.recipe.source import assigned

    usual = {name: p.default for name, p in inspect.signature(prune).parameters.items()}
    said = {name: given[name] for name in _OF_STEPS if given[name] != usual[name]}
    if given["epochs"] is not None:
        said["finetune"] = {"epochs": given["epochs"]} if given["epochs"] else None
    return assigned(said, given["settings"] or ())


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


def _config(kind: type[OnnxChannelsConfig], **values: Any) -> OnnxChannelsConfig:
    """The config, or what is wrong with the options in one line."""
    from pydantic import ValidationError

    from edgekit.errors import CompressError

    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])).replace("_", "-")
        said = str(first["msg"]).removeprefix("Value error, ")
        raise CompressError(f"--{name}: {said[0].lower()}{said[1:]}, got {first['input']}" if name else said) from None


def _has_test(data: str) -> bool:
    """Whether the data has a split that nothing was chosen on."""
    from edgekit.data import SOURCES, is_text

    return data in SOURCES or is_text(data)


def _table(report: PruneReport, out: Path) -> Table:
    from rich.table import Table

    from edgekit.cli.compress import latency_cells
    from edgekit.report.comparison import human_bytes

    proof, quality, pruned = report.proof, report.proof.quality, report.pruned
    table = Table(title=f"{out}: {report.status}", title_justify="left", caption=report.reason)
    for column in ("", "before", "after", "change"):
        table.add_column(column, justify="left" if not column else "right")
    for name, (before, after) in (("multiply-accumulates", pruned.macs), ("parameters", pruned.parameters)):
        table.add_row(name, f"{before:,}", f"{after:,}", f"{before / max(after, 1):.2f}x fewer")
    sizes = (human_bytes(proof.size_before), human_bytes(proof.size_after))
    table.add_row("size", *sizes, f"{proof.size_ratio:.2f}x smaller")
    table.add_row("latency", *latency_cells(proof.latency))
    for data, found in (("", quality), (" on test data", report.test)):
        if found is not None:
            name = f"{found.name}{data}{' (proxy, no labels)' if found.proxy else ''}"
            change = f"{0.0 - found.drop:+.4f} on {found.n} samples"
            table.add_row(name, f"{found.before:.4f}", f"{found.after:.4f}", change)
    table.add_section()
    for group in pruned.groups:
        others = f" and {len(group.layers) - 1} more" if len(group.layers) > 1 else ""
        table.add_row(f"{group.layer}{others}", str(group.before), str(group.after), "channels")
    for kept in pruned.kept[:_MOST_KEPT]:
        table.add_row(f"{kept.layer} stays", str(kept.channels), str(kept.channels), kept.reason)
    if len(pruned.kept) > _MOST_KEPT:
        table.add_row(f"{len(pruned.kept) - _MOST_KEPT} more stay", "", "", "--json lists them")
    return table
