"""How good each model of a run is, how much worse than the base, and what the base itself must beat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.compress import TECHNIQUES, name_of
from edgekit.evaluate import evaluate, paired_drop, scores_of
from edgekit.files import replacing, sha256_of
from edgekit.graph.read import size_bytes
from edgekit.judge import judge_key
from edgekit.pipeline.pictures import answers_file, write_answers
from edgekit.pipeline.workspace import Workspace, versions
from edgekit.recipe import BASE
from edgekit.streaming import as_whole, state_drift
from edgekit.tasks import METRICS, find_metric
from edgekit.tasks.classification import accuracy_by_class
from edgekit.tasks.metric import summarise
from edgekit.training.checkpoint import load_checkpoint

if TYPE_CHECKING:
    from edgekit.ort import Session

SPLITS = ("validation", "test")
_MOST_SERIES = 256


def evaluate_model(work: Workspace, name: str) -> dict[str, Any]:
    """The metric on validation data (to choose by) and test data (to report), with every sample's score."""
    model = work.model(name)
    files = {split: _scores_file(work, name, split) for split in SPLITS}
    answers = {"test": answers_file(work.out, name)} if work.task.by_class else {}

    def make() -> dict[str, Any]:
        from edgekit.ort import Session

        session = Session(model)
        base = Session(work.model(BASE)) if (work.task.drift or work.streams) and name != BASE else session
        found = {split: _judged(work, session, base, split, file, answers.get(split)) for split, file in files.items()}
        return _with_state_drift(work, found, base, session) if _keeps_the_state(work, name) else found

    inputs = [
        sha256_of(model),
        sha256_of(work.model(BASE)) if work.task.drift or work.streams else "",
        work.fingerprint,
        work.metric.name,
        (*work.task.also, *work.task.decoded),
        judge_key(work.source.name) if work.metric.needs_judge else "",
        versions("onnxruntime", "onnxruntime-gpu", "edgekit"),
    ]
    written = [*files.values(), *answers.values()]
    return work.store.run(f"{name}.metric", inputs, written, make, f"evaluating {name}").result


def evaluate_links(work: Workspace, name: str, steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps of a model, each with the metric on both splits after it, where there are several; else as they are."""
    if len(steps) < 2:
        return list(steps)
    last = evaluate_model(work, name)
    inner = [_evaluate_link(work, name, index, len(steps)) for index in range(len(steps) - 1)]
    values = [*inner, {split: {k: v for k, v in last[split].items() if k in inner[0][split]} for split in SPLITS}]
    paths = [work.stage(name, index, len(steps)) for index in range(len(steps))]
    return [
        {**step, "metric": value, "size_bytes": size_bytes(path)}
        for step, value, path in zip(steps, values, paths, strict=True)
    ]


def _evaluate_link(work: Workspace, name: str, index: int, count: int) -> dict[str, Any]:
    """The metric after a step that is not the last."""
    model = work.stage(name, index, count)

    def make() -> dict[str, Any]:
        from edgekit.ort import Session

        session, splits = as_whole(Session(model), work.data.inputs), work.data.splits
        return {split: evaluate(session, splits[split], work.metric).as_dict() for split in SPLITS}

    judge = judge_key(work.source.name) if work.metric.needs_judge else ""
    known = versions("onnxruntime", "onnxruntime-gpu", "edgekit")
    inputs = [sha256_of(model), work.fingerprint, work.metric.name, judge, known]
    doing = f"evaluating {name} after step {index + 1}"
    return work.store.run(f"{name}.{index}.metric", inputs, [], make, doing).result


def drops_of(work: Workspace, name: str) -> dict[str, Any]:
    """Split -> how much worse than the base, from the scores that `evaluate_model` left."""
    found = {}
    for split in SPLITS:
        before, after = (np.load(_scores_file(work, n, split)) for n in (BASE, name))
        found[split] = paired_drop(METRICS[work.metric.name], before, after).as_dict()
    return found


def measure_baseline(work: Workspace) -> dict[str, Any] | None:
    """What the base must beat; None where the task knows nothing."""
    if work.task.baseline is None:
        return None

    def make() -> dict[str, Any]:
        from edgekit.ort import Session
        from edgekit.pipeline.baseline import components_of_the_same_width, untrained

        if work.task.baseline == "components":
            return components_of_the_same_width(Session(work.model(BASE)), work.data)
        return untrained(load_checkpoint(work.checkpoint).card, work.data, work.metric, work.recipe.train.seed)

    inputs = [sha256_of(work.model(BASE)), work.fingerprint, work.metric.name, judge_key(work.source.name)]
    return work.store.run("baseline", [*inputs, versions("edgekit")], [], make, "measuring the baseline").result


def _scores_file(work: Workspace, name: str, split: str) -> Path:
    return work.scratch / f"{name}.{split}.npy"


def _judged(
    work: Workspace, session: Session, base: Session, split: str, file: Path, answers: Path | None
) -> dict[str, Any]:
    """Every metric of a model on a split, with its drift from the base where the task has one."""
    decoded = work.task.decoded if split == "test" else ()  # they cost a run a token
    metric, also = work.metric, [work.bound(name) for name in (*work.task.also, *decoded)]
    drifts = [find_metric(name) for name in (work.task.drift, *work.task.further_drift) if name]
    data = work.data.splits[split]
    asked = as_whole(session, work.data.inputs)
    first = asked if base is session else as_whole(base, work.data.inputs)
    values = scores_of(asked, data, [metric, *also], reference=first, drifts=drifts)
    with replacing(file) as temporary:
        np.save(temporary, values[metric.name])
    if answers is not None:
        write_answers(answers, values)
    told = {m.name: summarise(m, values[m.name]).as_dict() for m in (metric, *also, *drifts)}
    found = {**told[metric.name], "also": {m.name: told[m.name] for m in also}}
    if work.task.by_class and data.labels is not None:
        found["by_class"] = accuracy_by_class(values[metric.name], data.labels, work.data.classes)
    if drifts:
        main, *further = drifts
        found["drift"] = {**told[main.name], "also": {m.name: told[m.name] for m in further}}
    return found


def _keeps_the_state(work: Workspace, name: str) -> bool:
    """Whether a model carries the base's state: what was trained again has learnt one of its own."""
    steps = work.recipe.variants.get(name, [])
    return work.streams and name != BASE and all(TECHNIQUES[name_of(step)].stage == "onnx" for step in steps)


def _with_state_drift(work: Workspace, found: dict[str, Any], base: Session, session: Session) -> dict[str, Any]:
    """With how far the state is from the base's, behind each step of the first test series."""
    series, *ends = work.data.splits["test"].take(_MOST_SERIES).arrays.values()
    drift = state_drift(base, session, series, *ends)
    return {**found, "test": {**found["test"], "state_drift_db": drift.tolist()}}
