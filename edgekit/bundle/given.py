"""Models that the user names: judged on the test split where there is data for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.bundle.models import variant_name
from edgekit.bundle.preprocessing import task_of
from edgekit.bundle.records import Candidate, PackOptions
from edgekit.data import Split, is_text, load_split
from edgekit.errors import BundleError
from edgekit.evaluate import paired_drop, scores
from edgekit.files import sha256_of
from edgekit.generate.files import tokenizers_of
from edgekit.graph.admit import admit_model
from edgekit.graph.read import size_bytes
from edgekit.ort import Session
from edgekit.progress import note
from edgekit.specs import Array
from edgekit.tasks import TASKS, Metric, find_metric
from edgekit.tasks.metric import summarise


@dataclass(frozen=True)
class _Judged:
    """A model's scores on test data; None where it has no metric that can be had there."""

    metric: Metric | None = None
    scores: Array | None = None


def given_models(paths: Sequence[Path], named: Sequence[tuple[str, Path]], options: PackOptions) -> list[Candidate]:
    """The models that were named, with their metric where it can be had; losses are against the largest.

    Args:
        paths: Files whose names become those of the variants.
        named: (variant, file).
        options: Whose data they are judged on.

    Raises:
        BundleError: for a directory.
        ModelError: if one cannot be used.
        DataError: if the data is not there or does not fit.
    """
    given = [*((variant_name(p.stem), p) for p in paths), *named]
    folder = next((p for _, p in given if p.is_dir()), None)
    if folder is not None:
        raise BundleError(f"{folder} is a directory; name .onnx files, or a finished run with --run {folder}")
    judged = [_judge(path, options) for _, path in given]
    largest = max(range(len(given)), key=lambda i: size_bytes(given[i][1]), default=0)
    return [
        Candidate(name, path, **_told(own, judged[largest]), lineage=_lineage(path))
        for (name, path), own in zip(given, judged, strict=True)
    ]


def _lineage(path: Path) -> tuple[Mapping[str, Any], ...]:
    return ({"step": "given as it is", "sha256_of_input": sha256_of(path)},)


def _told(own: _Judged, reference: _Judged) -> dict[str, Any]:
    if own.metric is None or own.scores is None:
        return {}
    drop = None if reference.scores is None else paired_drop(own.metric, reference.scores, own.scores).value
    return {"metric": summarise(own.metric, own.scores).as_dict(), "drop": drop}


def _judge(path: Path, options: PackOptions) -> _Judged:
    admit_model(path)
    if not isinstance(options.data, str) or not options.judge:
        return _Judged()
    session = Session(path)
    task, text = task_of(session.metadata), is_text(options.data)
    tokenizer = tokenizers_of(path, session) if text else None
    split = load_split(options.data, "test", task=task, inputs=session.inputs, tokenizer=tokenizer)
    metric = _metric(task, split, session)
    if metric is None:
        return _Judged()
    note(f"judging {path.name} by {metric.name} on {len(split)} samples of {options.data}")
    return _Judged(metric, scores(session, split, metric))


def _metric(task: str, split: Split, session: Session) -> Metric | None:
    """The metric of the model's task; top1 of classes where the file says no task; None where neither can be had."""
    if task in TASKS:
        metric = find_metric(TASKS[task].metric)
        there = not metric.needs_judge and (split.labels is not None or not metric.needs_labels)
        return metric if there else None
    labels = split.labels
    classes = labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu" and session.outputs[0].rank == 2
    return find_metric("top1") if classes else None
