"""Gathering what the pictures of a report are drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.data import ImagePreprocessing
from edgekit.data.split import Split
from edgekit.ort import Session
from edgekit.pictures.activations import compare_activations
from edgekit.pictures.choice import shown_classified
from edgekit.pictures.images import Layout, layout_of
from edgekit.pictures.images_made import generated, reconstructions
from edgekit.pictures.outcomes import outcomes
from edgekit.pictures.record import Pictures
from edgekit.pictures.saliency import NEEDS_CAPTUM, captum_is_there, compare_saliency
from edgekit.progress import track
from edgekit.specs import Array

_MOST_VALUES = 1 << 18  # of a sample; occlusion runs each of them a hundred times
_MAKERS = {"reconstruction": reconstructions, "generation": generated}
Sessions = tuple[Session, Session]


@dataclass(frozen=True)
class Subject:
    """What pictures are made of.

    Attributes:
        task: Name of the task.
        models: Name -> file; the base first.
        compared: The variants that are drawn beside the base.
        split: Test data, as the models take it.
        classes: Names of the classes; empty where there are none.
        preprocessing: What was done to the images; None where nobody knows.
        answers: Of a classification, model -> float64 (n, 3): confidence, whether it is right, and the class.
    """

    task: str
    models: Mapping[str, Path]
    compared: Sequence[str]
    split: Split
    classes: Sequence[str]
    preprocessing: ImagePreprocessing | None
    answers: Mapping[str, Array]

    @property
    def base(self) -> str:
        """Name of the model that the others are compared with."""
        return next(iter(self.models))


def gather(subject: Subject) -> Pictures:
    """Everything that can be shown of these models and this data."""
    pictures = Pictures()
    if subject.answers and subject.split.labels is not None:
        found = outcomes(subject.split.labels, subject.answers, subject.classes, subject.compared)
        pictures.add("classification", found)
    for name in track(subject.compared, "gather pictures", total=len(subject.compared)):
        pictures.add_against(name, _against(subject, name))
    return pictures


def _against(subject: Subject, variant: str) -> Pictures:
    """What compares one variant with the base: images that they make, or maps of what they see."""
    found = Pictures()
    sessions = Session(subject.models[subject.base]), Session(subject.models[variant])
    if subject.task in _MAKERS:
        _add_made(found, subject, sessions)
    elif subject.answers:
        _add_maps(found, subject, variant, sessions)
    return found


def _add_made(found: Pictures, subject: Subject, sessions: Sessions) -> None:
    """Reconstructions or samples, if what the models give are images."""
    shape = [d if isinstance(d, int) else 0 for d in sessions[0].outputs[0].shape[1:]]
    layout = layout_of(shape)
    if layout is not None:
        facts, arrays = _MAKERS[subject.task](sessions, subject.split, layout, subject.preprocessing)
        found.add(subject.task, facts, **arrays)


def _add_maps(found: Pictures, subject: Subject, variant: str, sessions: Sessions) -> None:
    """Saliency and activation maps of a classifier of images."""
    split = subject.split.matched(sessions[0].inputs)
    images = next(iter(split.arrays.values()))
    layout = layout_of(images.shape[1:])
    if layout is None or len(split.arrays) != 1 or split.labels is None or split.whole_feeds:
        return
    before, after = (subject.answers[n] for n in (subject.base, variant))
    shown = shown_classified(split.labels, before, after)
    rows = images[shown]
    samples = [_said(i, split.labels, before, after) for i in shown]
    found.add("samples", {"samples": samples}, image=layout.shown(rows, subject.preprocessing))
    if rows[0].size <= _MOST_VALUES:
        _add_saliency(found, sessions, rows, before[shown, 2].astype(np.int64), layout)
    arrays = {sessions[0].inputs[0].name: rows}
    layers, maps = compare_activations(subject.models[subject.base], subject.models[variant], arrays)
    found.add("activations", {"layers": layers}, **maps)


def _add_saliency(found: Pictures, sessions: Sessions, rows: Array, classes: Array, layout: Layout) -> None:
    if not captum_is_there():
        found.add("saliency", {"missing": NEEDS_CAPTUM})
        return
    facts, maps = compare_saliency(sessions, rows, classes, layout)
    found.add("saliency", facts, **maps)


def _said(index: int, labels: Array, before: Array, after: Array) -> dict[str, Any]:
    return {
        "index": index,
        "label": int(labels[index]),
        "base": int(before[index, 2]),
        "variant": int(after[index, 2]),
    }
