"""Comparing models: each with the first, on the same samples, in the same order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.agreement import Remembering, agreement
from edgekit.bench import BenchRequest, bench_models, compare_rows
from edgekit.comparison.material import Material, load_material, metric_for
from edgekit.comparison.records import ComparedModel, CompareRequest, ModelComparison
from edgekit.data.split import Split
from edgekit.errors import ModelError
from edgekit.evaluate import paired_drop, scores_of
from edgekit.files import sha256_of
from edgekit.graph.admit import admit_model
from edgekit.graph.read import size_bytes
from edgekit.judge import bind_judge
from edgekit.ort import Session
from edgekit.pictures import Pictures, Subject, gather
from edgekit.specs import Array
from edgekit.streaming import is_streaming, state_drift
from edgekit.tasks import Metric, MetricValue, find_metric
from edgekit.tasks.classification import CALIBRATION_ERROR, TOP1
from edgekit.tasks.language import LANGUAGE_MODELLING
from edgekit.tasks.metric import summarise

Scores = Mapping[str, Array]
_MOST_SERIES = 256


def compare_models(models: Sequence[Path], request: CompareRequest) -> ModelComparison:
    """Compare models with the first of them.

    Raises:
        ModelError: for a model that cannot be used, or one that is given twice.
        DataError: if the data does not fit them or the metric.
        ProviderError: if the provider is not there.
    """
    named = short_names(models)
    for model in models:
        admit_model(model)
    sessions = {name: Session(path, request.provider) for name, path in named.items()}
    material = load_material(request.data, request.split, models[0], next(iter(sessions.values())))
    metric = metric_for(material, request.metric)
    metric = bind_judge(metric, request.judge or request.data) if metric else None
    further = _further(material, metric)
    scores = _all_scores(sessions, material, metric, further)
    latency, notes = _latency(named, material.split, request) if request.latency else ({}, ())
    agreements = _agreements(sessions, material.split) if not further else _token_agreements(scores)
    compared = _compared(named, metric, scores, agreements, latency)
    compared = tuple(replace(c, also=_also(scores[c.name], further, c.name == compared[0].name)) for c in compared)
    if is_streaming(next(iter(sessions.values()))):
        compared = _with_state_drift(compared, sessions, material.split)
    answers = {name: s[CALIBRATION_ERROR.name] for name, s in scores.items()} if metric is TOP1 else {}
    return ModelComparison(
        request=request,
        task=material.task,
        n=len(material.split),
        models=compared,
        classes=_classes(material, sessions) if answers else (),
        notes=notes,
        pictures=_pictures(material, named, sessions, answers) if request.pictures else Pictures(),
    )


def short_names(models: Sequence[Path]) -> dict[str, Path]:
    """Name -> path: the file's name without its ending where that tells them apart, else the path.

    Raises:
        ModelError: if a file is given twice.
    """
    paths = [model.resolve() for model in models]
    twice = next((model for model, path in zip(models, paths, strict=True) if paths.count(path) > 1), None)
    if twice is not None:
        raise ModelError(f"model {twice} is given twice; name different files")
    stems = [model.stem for model in models]
    return {s if stems.count(s) == 1 else str(m): m for s, m in zip(stems, models, strict=True)}


def _further(material: Material, metric: Metric | None) -> tuple[Metric, ...]:
    """What is told of language models beside the metric and the agreement: of their answers, never of their caches."""
    if material.task != LANGUAGE_MODELLING.name:
        return ()
    names = [*LANGUAGE_MODELLING.also, *LANGUAGE_MODELLING.further_drift]
    return tuple(find_metric(name) for name in names if metric is None or name != metric.name)


def _all_scores(
    sessions: Mapping[str, Session], material: Material, metric: Metric | None, further: Sequence[Metric]
) -> dict[str, Scores]:
    """Of the metric and what goes with it: how sure a class is, how far a text is from the first model's."""
    drifts = [find_metric(n) for n in (LANGUAGE_MODELLING.drift, *LANGUAGE_MODELLING.further_drift)] if further else []
    metrics = [] if metric is None else [metric, CALIBRATION_ERROR] if metric is TOP1 else [metric]
    metrics += [m for m in further if m not in drifts]
    if not metrics:
        return {name: {} for name in sessions}
    first = next(iter(sessions.values()))
    return {
        name: scores_of(session, material.split, metrics, reference=first, drifts=drifts)
        for name, session in sessions.items()
    }


def _with_state_drift(
    compared: tuple[ComparedModel, ...], sessions: Mapping[str, Session], split: Split
) -> tuple[ComparedModel, ...]:
    """How far the state of each is from the first's, step by step, on the first series."""
    first, *others = compared
    series = next(iter(split.take(_MOST_SERIES).arrays.values()))
    drifts = {o.name: state_drift(sessions[first.name], sessions[o.name], series) for o in others}
    return (first, *(replace(o, state_drift_db=tuple(map(float, drifts[o.name]))) for o in others))


def _token_agreements(scores: Mapping[str, Scores]) -> dict[str, MetricValue]:
    metric = find_metric(LANGUAGE_MODELLING.drift)
    return {name: summarise(metric, found[metric.name]) for name, found in list(scores.items())[1:]}


def _also(scores: Scores, further: Sequence[Metric], is_first: bool) -> dict[str, MetricValue]:
    """The further metrics of one model; the first has no distance from itself."""
    told = [m for m in further if not (is_first and m.name in LANGUAGE_MODELLING.further_drift)]
    return {m.name: summarise(m, scores[m.name]) for m in told}


def _agreements(sessions: Mapping[str, Session], split: Split) -> dict[str, Any]:
    first, *others = sessions
    reference = Remembering(sessions[first])
    return {name: agreement(reference, sessions[name], split) for name in others}


def _compared(
    named: Mapping[str, Path],
    metric: Metric | None,
    scores: Mapping[str, Scores],
    agreements: Mapping[str, Any],
    latency: Mapping[str, Any],
) -> tuple[ComparedModel, ...]:
    first = next(iter(named))
    found = []
    for name, path in named.items():
        value, drop = None, None
        if metric is not None:
            value = summarise(metric, scores[name][metric.name])
            drop = paired_drop(metric, scores[first][metric.name], scores[name][metric.name])
        found.append(
            ComparedModel(
                name=name,
                model=str(path),
                sha256=sha256_of(path),
                size_bytes=size_bytes(path),
                size_ratio=size_bytes(named[first]) / size_bytes(path),
                metric=value,
                drop=None if name == first else drop,
                agreement=agreements.get(name),
                latency=latency.get(name),
            )
        )
    return tuple(found)


def _latency(
    named: Mapping[str, Path], split: Split, request: CompareRequest
) -> tuple[dict[str, dict[str, Any]], tuple[str, ...]]:
    """Median latency of each model at batch 1, measured in turns, and its speed-up over the first."""
    plan = BenchRequest(providers=(request.provider,), batches=(1,), feeds=dict(split.take(1).arrays), compare=True)
    report = bench_models(list(named.values()), plan)
    gains = {c.model: c.as_dict() for c in compare_rows(report)}
    found = {}
    for name, path in named.items():
        row = next(r for r in report.rows if r.model == str(path)).as_dict()
        gain = {key: gains[str(path)][key] for key in ("speedup", "ci95", "verdict")} if str(path) in gains else None
        found[name] = {key: row[key] for key in ("latency_ms", "threads", "n", "providers_used")} | {"gain": gain}
    return found, tuple(report.notes)


def _classes(material: Material, sessions: Mapping[str, Session]) -> tuple[str, ...]:
    """A name for each output of a classifier; numbers where the data does not know them all."""
    width = next(iter(sessions.values())).outputs[0].shape[-1]
    most = int(material.split.labels.max()) + 1 if material.split.labels is not None else 0
    needed = width if isinstance(width, int) else max(most, len(material.classes))
    return material.classes if len(material.classes) == needed else tuple(map(str, range(needed)))


def _pictures(
    material: Material, named: Mapping[str, Path], sessions: Mapping[str, Session], answers: Mapping[str, Array]
) -> Pictures:
    return gather(
        Subject(
            task=material.task,
            models=named,
            compared=list(named)[1:],
            split=material.split,
            classes=_classes(material, sessions),
            preprocessing=material.preprocessing,
            answers=answers,
        )
    )
