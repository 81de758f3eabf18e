"""A teacher's answers to a split, kept on disk: asked once a sample, also when training is interrupted in between."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit import progress
from edgekit.compress.distill.teacher import Teacher, for_teacher
from edgekit.data import Split
from edgekit.errors import CompressError
from edgekit.files import digest, make_directory, output_errors, write_json
from edgekit.specs import Array

if TYPE_CHECKING:
    from torch import Tensor

MOST_BYTES = 1 << 30
_AT_ONCE, _VALUES = 256, 1 << 22  # samples in a batch, and the most numbers that go in with them
_BETWEEN = 4096  # samples between two records of how far it came
_RECORD = "answers.json"


@dataclass(frozen=True)
class Answers:
    """What a teacher says of each sample of a split; read from disk as it is wanted.

    Attributes:
        views: For each way of showing the samples (as they are; mirrored), one array (n, ...) an output.
    """

    views: tuple[tuple[Array, ...], ...]

    def take(self, samples: Tensor, view: Tensor | None = None) -> list[Tensor]:
        """The answers for some samples.

        Args:
            samples: int64 (n,), where they lie in the split.
            view: int64 (n,), which way each was shown; as it is by default.
        """
        import torch

        rows = samples.cpu().numpy()
        found = [torch.from_numpy(np.asarray(output[rows])) for output in self.views[0]]
        if view is not None and len(self.views) > 1:
            for into, output in zip(found, self.views[1], strict=True):
                other = np.flatnonzero(view.cpu().numpy())
                into[other] = torch.from_numpy(np.asarray(output[rows[other]]))
        return [f.to(samples.device) for f in found]


@dataclass(frozen=True)
class _Question:
    """What a teacher is asked.

    Attributes:
        teacher: Who.
        split: About which samples.
        names: Inputs of the student, in its order.
        task: Of both.
        mirrored: Whether each sample is also shown mirrored.
    """

    teacher: Teacher
    split: Split
    names: Sequence[str]
    task: str
    mirrored: bool

    @property
    def views(self) -> int:
        return 2 if self.mirrored else 1

    def ask(self, start: int, stop: int, view: int) -> list[Array]:
        import torch

        feeds = {n: torch.from_numpy(self.split.arrays[n][start:stop]) for n in self.names}
        if view:
            first = self.names[0]
            feeds[first] = feeds[first].flip(3)
        inputs = for_teacher(self.teacher.inputs, feeds, self.task, self.teacher.name)
        outputs = [o.float().numpy() for o in self.teacher.look(inputs).outputs]
        refuse_non_finite(self.teacher.name, outputs, start)
        return outputs


def keep_answers(
    teacher: Teacher,
    split: Split,
    names: Sequence[str],
    *,
    task: str,
    place: Path,
    fingerprint: str,
    mirrored: bool = False,
    most_bytes: int = MOST_BYTES,
) -> Answers | None:
    """Ask a teacher about every sample of a split, or go on where an interrupted run stopped asking.

    Args:
        teacher: Who is asked.
        split: Its arrays are those of the student.
        names: Inputs of the student, in its order.
        task: Of both.
        place: Directory; the answers of each teacher and data get one of their own in it.
        fingerprint: Of the data.
        mirrored: Whether to ask about mirrored pictures too.
        most_bytes: Of all answers.

    Returns:
        The answers; None where they are more than that.

    Raises:
        CompressError: if the teacher gives a number that is not finite; the message names the sample.
    """
    from filelock import FileLock

    question = _Question(teacher, split, names, task, mirrored)
    shapes = [o.shape[1:] for o in question.ask(0, min(2, len(split)), 0)]
    size = 4 * question.views * len(split) * sum(int(np.prod(s)) for s in shapes)
    if size > most_bytes:
        progress.note(f"{teacher.name} answers anew in every epoch: its answers would take {size / 1e9:.1f} GB")
        return None
    key = digest([teacher.key, fingerprint, split.name, len(split), task, list(names), question.views])
    directory = make_directory(place / key[:16])
    with output_errors(directory), FileLock(directory / ".edgekit.lock"):  # processes of one training ask once
        return _answered(question, directory, shapes)


def _answered(question: _Question, directory: Path, shapes: Sequence[tuple[int, ...]]) -> Answers:
    count, total = len(question.split), question.views * len(question.split)
    paths = [[directory / f"{view}.{i}.npy" for i in range(len(shapes))] for view in range(question.views)]
    done = _done(directory, paths, [(count, *s) for s in shapes])
    if done < total:
        mode = "r+" if done else "w+"
        files = [[_opened(p, (count, *s), mode) for p, s in zip(row, shapes, strict=True)] for row in paths]
        _ask_on(question, directory, files, done)
    return Answers(tuple(tuple(np.load(p, mmap_mode="r") for p in row) for row in paths))


def _ask_on(question: _Question, directory: Path, files: Sequence[Sequence[Array]], done: int) -> None:
    count = len(question.split)
    step = question.split.affordable(_AT_ONCE, _VALUES)
    places = [
        (view, start, min(start + step, count))
        for view in range(question.views)
        for start in range(max(0, done - view * count), count, step)
        if view * count + start >= done
    ]
    recorded = done
    for view, start, stop in progress.track(places, f"asking {question.teacher.name}", total=len(places)):
        for file, output in zip(files[view], question.ask(start, stop, view), strict=True):
            file[start:stop] = output
        so_far = view * count + stop
        if so_far - recorded >= _BETWEEN or so_far == question.views * count:
            recorded = so_far
            _record(directory, files, recorded)


def _record(directory: Path, files: Sequence[Sequence[Any]], done: int) -> None:
    """Say how far it came, after that much is on disk."""
    for row in files:
        for file in row:
            file.flush()
    write_json(directory / _RECORD, {"done": done})


def _done(directory: Path, paths: Sequence[Sequence[Path]], shapes: Sequence[tuple[int, ...]]) -> int:
    """How many answers an earlier run left, if its files are as they must be."""
    try:
        done = int(json.loads((directory / _RECORD).read_text(encoding="utf-8"))["done"])
        there = [[np.load(p, mmap_mode="r").shape for p in row] for row in paths]
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return done if all(row == list(shapes) for row in there) else 0


def _opened(path: Path, shape: tuple[int, ...], mode: Any) -> Array:
    if mode == "r+":
        return np.load(path, mmap_mode="r+")  # type: ignore[no-any-return]
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)


def refuse_non_finite(name: str, outputs: Sequence[Array], start: int) -> None:
    """Refuse answers that nobody can learn from.

    Args:
        name: Of the teacher.
        outputs: Its answers, (n, ...) each.
        start: Where the first of the samples lies in the training split.

    Raises:
        CompressError: for NaN or Inf.
    """
    for output in outputs:
        finite = np.isfinite(output.reshape(len(output), -1)).all(axis=1)
        if not finite.all():
            sample = start + int(finite.argmin())
            raise CompressError(
                f"teacher {name} gives NaN or Inf for training sample {sample}; nothing can be learnt from it: mend "
                "its weights, or take another teacher"
            )


def view_of(stored: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> Tensor:
    """Which samples of a batch were changed, where mirroring is all that may have happened: int64 (n,), 0 or 1."""
    first = next(iter(stored))
    changed = (stored[first] != inputs[first]).flatten(1).any(1)
    return changed.long()
