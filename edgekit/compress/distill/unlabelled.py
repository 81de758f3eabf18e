"""Data without labels: what the teacher says of each sample takes their place, also where the student is judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from edgekit.compress.distill.teacher import Teacher, for_teacher
from edgekit.data import DataSet, Split, load_npz
from edgekit.data.npz import load as load_archive
from edgekit.errors import CompressError
from edgekit.progress import track
from edgekit.specs import Array

_AT_ONCE, _VALUES = 256, 1 << 22


def is_unlabelled(data: str) -> bool:
    """Whether this is an .npz without labels."""
    return data.endswith(".npz") and Path(data).is_file() and load_npz(Path(data)).labels is None


def load_unlabelled(data: str, task: str, classes: tuple[str, ...]) -> DataSet:
    """An .npz without labels, for a teacher's task and classes; all its labels are 0.

    Raises:
        CompressError: if the teacher does not tell its classes.
        DataError: as for any .npz.
    """
    if not classes:
        raise CompressError(
            f"data {data} has no labels, and the teacher does not say what its classes are; add an array `labels`, or "
            "give a teacher that edgekit trained or exported"
        )
    return load_archive(Path(data), task, unlabelled=classes)


def labelled_by(teacher: Teacher, data: DataSet) -> DataSet:
    """The data with the teacher's answers as labels: the likeliest class, or the numbers.

    Args:
        teacher: Who answers.
        data: For classification, step-classification or regression.
    """
    splits = {name: replace(split, labels=_labels(teacher, split, data)) for name, split in data.splits.items()}
    labels = splits["train"].labels
    if data.task != "regression" or labels is None:
        return replace(data, splits=splits)
    return replace(data, splits=splits, target_scale=(float(labels.mean()), float(labels.std()) or 1.0))


def _labels(teacher: Teacher, split: Split, data: DataSet) -> Array:
    step = split.affordable(_AT_ONCE, _VALUES)
    starts = range(0, len(split), step)
    found = [
        _answer(teacher, split, data, start, start + step)
        for start in track(starts, f"asking {teacher.name} for {split.name}", total=len(starts))
    ]
    numbers = np.concatenate(found)
    return numbers if data.task == "regression" else numbers.argmax(-1).astype(np.int64)


def _answer(teacher: Teacher, split: Split, data: DataSet, start: int, stop: int) -> Array:
    import torch

    from edgekit.compress.distill.answers import refuse_non_finite

    feeds = {s.name: torch.from_numpy(split.arrays[s.name][start:stop]) for s in data.inputs}
    inputs = for_teacher(teacher.inputs, feeds, data.task, teacher.name)
    answer: Array = teacher.look(inputs).outputs[0].float().numpy()
    refuse_non_finite(teacher.name, [answer], start)
    return answer
