"""Pruning one checkpoint from the command line or from Python, by the techniques that recipes use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from edgekit.compress import ELSEWHERE, TECHNIQUES, StepConfig
from edgekit.data import resolve_source
from edgekit.errors import CompressError, OutputError, unknown
from edgekit.evaluate import paired_drop, scores
from edgekit.families import FAMILIES
from edgekit.judge import bind_judge, prepare_judge
from edgekit.pipeline.loaded import fed
from edgekit.pipeline.torch_step import TorchWork
from edgekit.tasks import TASKS, find_metric
from edgekit.training.checkpoint import read_config
from edgekit.training.config import TrainConfig
from edgekit.training.processes import held


@dataclass(frozen=True)
class PruneRequest:
    """What to prune, and how.

    Attributes:
        source: A checkpoint directory.
        out: Checkpoint directory to write.
        data: To choose by and to fine-tune on.
        method: Of the technique, such as "channels".
        options: Fields of its config that differ from their defaults.
        threads: That a speed-up is measured with.
    """

    source: Path
    out: Path
    data: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    threads: int | None = None


@dataclass(frozen=True)
class PruneReport:
    """What came of it.

    Attributes:
        method: As a recipe writes it, such as "prune: channels".
        reason: One sentence.
        metric: Name of what decides.
        before: Its value on test data.
        after: The same of the pruned model.
        drop: How much worse that is, in the metric's unit.
        ci95: Its 95 % interval, paired.
        n: Test samples.
        excluded: What had to stay, each with the reason.
        details: As results.json holds them: macs, parameters, links.
    """

    method: str
    reason: str
    metric: str
    before: float
    after: float
    drop: float
    ci95: tuple[float, float] | None
    n: int
    excluded: tuple[dict[str, str], ...]
    details: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """As JSON writes it."""
        return {"status": "ok", **asdict(self)}


def prune_checkpoint(request: PruneRequest) -> PruneReport:
    """Prune a checkpoint; the same request goes on where an interrupted one stopped.

    Raises:
        CompressError: for a method or options that are not there, or make no sense for the model.
        ModelError: if the source is no checkpoint.
    """
    config = _config(request.method, request.options)
    if request.out.resolve() == request.source.resolve():
        raise OutputError(f"output {request.out} is the source; edgekit never overwrites its input, name another one")
    known = read_config(request.source)
    refused = FAMILIES[known["card"]["family"]].refuses if known["card"]["family"] in FAMILIES else {}
    name = f"prune: {request.method}"
    if name in refused:
        raise CompressError(f"family {known['card']['family']!r} refuses `{name}`: {refused[name]}")
    with held(request.out, TrainConfig()):
        return _prune(request, config, known)


def _prune(request: PruneRequest, config: StepConfig, known: Mapping[str, Any]) -> PruneReport:
    from edgekit.load import open_checkpoint

    source, task = resolve_source(request.data), known["card"]["task"]
    metric = bind_judge(find_metric(TASKS[task].metric), source.name)
    prepare_judge(metric, source.name)
    model = open_checkpoint(request.source)
    loaded = source.load(None, source.task_for([task]))
    data = fed(loaded, model.inputs)
    work = TorchWork(
        checkpoint=request.source,
        base=request.source,
        out=request.out,
        load_data=lambda: data,
        fingerprint=source.fingerprint(None),
        metric=metric,
        train=_trained(known),
        work=request.out / "work" / "prune",
        threads=request.threads,
    )
    method = TECHNIQUES[f"prune: {request.method}"]
    result = method.apply(config, work.step())
    before, after = (scores(m, data.splits["test"], metric) for m in (model, open_checkpoint(request.out)))
    drop = paired_drop(metric, before, after)
    values = (metric.value(np.asarray(before)), metric.value(np.asarray(after)))
    excluded = tuple({"name": node.name, "reason": node.reason} for node in result.excluded_nodes)
    return PruneReport(
        method.name, result.reason, metric.name, *values, drop.value, drop.ci95, drop.n, excluded, result.details
    )


def _trained(known: Mapping[str, Any]) -> TrainConfig:
    """How the checkpoint was trained; the defaults where nobody knows."""
    said = {k: v for k, v in (known.get("train") or {}).items() if k in TrainConfig.model_fields and k != "init"}
    return TrainConfig.model_validate(said)


def _config(method: str, options: Mapping[str, Any]) -> StepConfig:
    """The config of a method.

    Raises:
        CompressError: with one line for each mistake.
    """
    techniques = {t.method: t for t in TECHNIQUES.values() if t.kind == "prune" and t.stage == "torch"}
    if f"prune: {method}" in ELSEWHERE:
        raise CompressError(f"`prune: {method}`: {ELSEWHERE[f'prune: {method}']}")
    if method not in techniques:
        raise CompressError(unknown("pruning method", method, techniques))
    try:
        return techniques[method].config.model_validate(dict(options))
    except ValidationError as error:
        raise CompressError("\n".join(_said(d, techniques[method].config) for d in error.errors())) from None


def _said(detail: Any, config: type[StepConfig]) -> str:
    """One mistake of the options."""
    where = ".".join(map(str, detail["loc"]))
    if detail["type"] == "extra_forbidden" and len(detail["loc"]) == 1:
        return unknown("key", where, config.model_fields)
    said = detail["msg"].removeprefix("Value error, ")
    return f"{where}: {said[0].lower()}{said[1:]}, got {detail['input']!r}" if where else said
