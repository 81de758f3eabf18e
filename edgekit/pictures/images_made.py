"""Images that models give: reconstructions, and samples for the same latent vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.data import ImagePreprocessing
from edgekit.data.split import Split
from edgekit.ort import Session
from edgekit.pictures.choice import first_of_classes, most_changed
from edgekit.pictures.images import Layout
from edgekit.pictures.runs import noise_facts, run_rows
from edgekit.specs import Array

_LOOKED_AT = 256
_COLUMNS = 8
_CHANGED = 2


def reconstructions(
    sessions: tuple[Session, Session], split: Split, layout: Layout, preprocessing: ImagePreprocessing | None
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Images beside what an autoencoder and its compressed copy make of them, for the same noise.

    Args:
        sessions: The original and its copy; the first output is the image.
        split: As the models take it; the first array of the images' rank holds them.
        layout: Of the images.
        preprocessing: What was done to them.
    """
    part, before, after = _both(sessions, split)
    images = next(a for a in part.arrays.values() if a.ndim == before.ndim)
    shown = _chosen(_labels(part), before, after)
    facts = {"n": len(part), "samples": shown, **noise_facts(before, after)}
    return facts, {
        "input": layout.shown(images[shown], preprocessing),
        "base": layout.shown(before[shown], preprocessing),
        "variant": layout.shown(after[shown], preprocessing),
    }


def generated(
    sessions: tuple[Session, Session], split: Split, layout: Layout, preprocessing: ImagePreprocessing | None
) -> tuple[dict[str, Any], dict[str, Array]]:
    """What a generator and its compressed copy make of the same latent vectors."""
    part, before, after = _both(sessions, split)
    shown = _chosen(None, before, after)
    facts = {"n": len(part), "samples": shown, **noise_facts(before, after)}
    return facts, {
        "base": layout.shown(before[shown], preprocessing),
        "variant": layout.shown(after[shown], preprocessing),
    }


def _both(sessions: tuple[Session, Session], split: Split) -> tuple[Split, Array, Array]:
    part = split.take(_LOOKED_AT).matched(sessions[0].inputs)
    first = [sessions[0].outputs[0].name]
    before, after = (run_rows(s, part.arrays, first)[0] for s in sessions)
    return part, before, after


def _labels(part: Split) -> Array | None:
    return part.labels if part.labels is not None and part.labels.ndim == 1 else None


def _chosen(labels: Array | None, before: Array, after: Array) -> list[int]:
    """The first of each class, or simply the first, and those that compression changed most."""
    kept = _COLUMNS - _CHANGED
    first = list(range(min(kept, len(before)))) if labels is None else first_of_classes(labels, kept)
    change = np.square(before.astype(np.float64) - after).reshape(len(before), -1).mean(axis=1)
    return first + most_changed(change, _CHANGED, first)
