"""The step of a run that gathers what its pictures are drawn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.data import DataSet
from edgekit.files import replacing, sha256_of
from edgekit.pictures import Subject, gather, write_arrays
from edgekit.pipeline.results import ModelResult
from edgekit.pipeline.workspace import versions
from edgekit.recipe import BASE
from edgekit.specs import Array
from edgekit.steps import StepStore
from edgekit.tasks import Task
from edgekit.tasks.classification import CALIBRATION_ERROR

ARRAYS = "pictures/arrays.npz"
_IMAGES_MADE = ("reconstruction", "generation")
_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "captum", "edgekit")


@dataclass(frozen=True)
class PicturePlan:
    """Which models of a run are shown.

    Attributes:
        out: Directory of the run.
        models: Name -> file; the base first.
        compared: The variants that are drawn beside the base.
        task: What they do.
        fingerprint: Of the data.
    """

    out: Path
    models: Mapping[str, Path]
    compared: Sequence[str]
    task: Task
    fingerprint: str

    def key(self) -> list[Any]:
        """Everything that the result depends on."""
        hashes = {name: sha256_of(path) for name, path in self.models.items()}
        return [hashes, self.compared, self.task.name, self.fingerprint, versions(*_PACKAGES)]


def has_pictures(task: Task) -> bool:
    """Whether there is anything to gather for a task."""
    return task.by_class or task.name in _IMAGES_MADE


def compared_in_pictures(models: Sequence[ModelResult], best: ModelResult | None) -> list[str]:
    """The variant that is drawn beside the base: the best, else the smallest; none where there is none."""
    variants = [m for m in models if m.name != BASE]
    if not variants:
        return []
    chosen = best if best in variants else min(variants, key=lambda m: m.size_bytes)
    return [chosen.name] if chosen else []


def gather_pictures(plan: PicturePlan, store: StepStore, data: Callable[[], DataSet]) -> dict[str, Any]:
    """`pictures` of results.json; the arrays go into a file."""
    arrays = plan.out / ARRAYS

    def make() -> dict[str, Any]:
        loaded = data()
        pictures = gather(
            Subject(
                task=plan.task.name,
                models=plan.models,
                compared=plan.compared,
                split=loaded.splits["test"],
                classes=loaded.classes,
                preprocessing=loaded.of_pictures,
                answers=_answers(plan) if plan.task.by_class else {},
            )
        )
        write_arrays(arrays, pictures.arrays)
        return {"arrays": ARRAYS, "classes": list(loaded.classes), "facts": pictures.facts}

    return store.run("pictures", plan.key(), [arrays], make, "gathering pictures").result


def picture_files(out: Path) -> list[Path]:
    """The pictures that a report left beside it."""
    place = (out / ARRAYS).parent
    return sorted([*place.glob("*.svg"), *place.glob("*.png")])


def answers_file(out: Path, name: str) -> Path:
    """Where a classifier's answers to the test data lie."""
    return out / "work" / f"{name}.answers.npy"


def write_answers(path: Path, scores: Mapping[str, Array]) -> None:
    """Keep confidence, whether it is right, and the class of each answer, float64 (n, 3)."""
    with replacing(path) as temporary:
        np.save(temporary, scores[CALIBRATION_ERROR.name])


def _answers(plan: PicturePlan) -> dict[str, Array]:
    return {name: np.load(answers_file(plan.out, name)) for name in plan.models}
