"""The data that models are compared on, as they take it, and what is known of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.data import ImagePreprocessing, add_latents, find_source, is_text, load_npz, our_task
from edgekit.data.split import Split
from edgekit.errors import DataError, unknown
from edgekit.generate.files import split_for
from edgekit.ort import Session
from edgekit.streaming import as_stream, is_streaming
from edgekit.tasks import TASKS, Metric, find_metric


@dataclass(frozen=True)
class Material:
    """One split and what it means.

    Attributes:
        task: Name of the task; "" where neither model nor data say it.
        split: As the models take it.
        classes: Names of the classes; empty where there are none.
        preprocessing: What was done to images; None where nobody knows.
    """

    task: str
    split: Split
    classes: tuple[str, ...]
    preprocessing: ImagePreprocessing | None


def load_material(data: str, split: str, model: Path, session: Session) -> Material:
    """The data for a model.

    Args:
        data: Name of a data set, or path of an .npz.
        split: Of a named data set; an .npz has none.
        model: Its file; beside a model of text lies the tokeniser.
        session: Of the model; its metadata say what `edgekit export` knew.

    Raises:
        DataError: if there is no such data or split.
    """
    said = session.metadata
    if data.endswith(".npz") or (not is_text(data) and Path(data).is_file()):
        loaded = load_npz(Path(data))
        return Material(_task(said, loaded), loaded, _classes(said, session), _preprocessing(said))
    task = said.get("edgekit.task", "")
    if is_text(data):
        part = split_for(model, data, split)
        return Material(our_task(task), part, _classes(said, session), None)
    source = find_source(data)
    found = source.load(None, task if task in source.tasks else source.tasks[0])
    if split not in found.splits:
        raise DataError(unknown("split", split, found.splits))
    part = found.splits[split]
    if is_streaming(session):
        return Material(found.task, as_stream(part), found.classes, None)
    part = add_latents(part, session.inputs) if task in source.tasks else part
    return Material(found.task, part, found.classes or _classes(said, session), found.of_pictures)


def metric_for(material: Material, name: str | None) -> Metric | None:
    """The metric that was asked for, else that of the task; None for data without the labels that it needs."""
    if name is not None:
        return find_metric(name)
    if material.task not in TASKS:
        return None
    metric = find_metric(TASKS[material.task].metric)
    return None if metric.needs_labels and material.split.labels is None else metric


def _task(said: Mapping[str, str], split: Split) -> str:
    """What the model says of itself; else what labels look like."""
    if said.get("edgekit.task") in TASKS or split.labels is None:
        return said.get("edgekit.task", "")
    return "classification" if split.labels.dtype.kind in "iu" else "regression"


def _classes(said: Mapping[str, str], session: Session) -> tuple[str, ...]:
    width = session.outputs[0].shape[-1] if session.outputs[0].rank == 2 else 0
    names = _json(said, "edgekit.classes")
    if isinstance(names, list):
        return tuple(map(str, names))
    return tuple(map(str, range(width))) if isinstance(width, int) else ()


def _preprocessing(said: Mapping[str, str]) -> ImagePreprocessing | None:
    found = _json(said, "edgekit.preprocessing")
    if not isinstance(found, dict) or found.get("kind") != "image":
        return None
    try:
        return ImagePreprocessing.of(found)
    except TypeError:  # of another version: the images are shown from their lowest to their highest value
        return None


def _json(said: Mapping[str, str], key: str) -> Any:
    """A metadata entry of a file that anybody may have written."""
    try:
        return json.loads(said.get(key, "null"))
    except ValueError:
        return None
