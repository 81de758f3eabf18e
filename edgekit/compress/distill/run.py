"""One distillation, wherever it was asked for: a student, its teacher, and the training that joins them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgekit.compress.distill.config import DistillConfig, SequencesConfig
from edgekit.compress.distill.lesson import Lesson
from edgekit.compress.distill.losses import LOSSES
from edgekit.compress.distill.sequences import TASK, Writer, written_by
from edgekit.compress.distill.student import Student
from edgekit.compress.distill.teacher import Teacher
from edgekit.data import DataSet
from edgekit.errors import CompressError
from edgekit.tasks import Metric
from edgekit.training.checkpoint import TrainedModel
from edgekit.training.config import TrainConfig
from edgekit.training.extras import Extras, holding_zeros
from edgekit.training.fit import fit

_SAID = "teacher"  # directory of what teachers said


@dataclass(frozen=True)
class Distilling:
    """One distillation.

    Attributes:
        config: Of it.
        student: What learns.
        teacher: Whom it learns from.
        train: What `config.train` differs from.
        out: Checkpoint directory to write.
        work: Directory for what the teacher said.
        fingerprint: Of the data.
        metric: Which decides; None for that of the task.
    """

    config: DistillConfig
    student: Student
    teacher: Teacher
    train: TrainConfig
    out: Path
    work: Path
    fingerprint: str
    metric: Metric | None = None

    def run(self) -> TrainedModel:
        """Train the student.

        Raises:
            CompressError: if the method is not for the task, or the teacher's answers cannot be learnt from.
            TrainingError: as `training.fit` raises it.
        """
        refuse_other_task(self.config, self.student.data.task)
        load_data, extras = self._text(self.config) if isinstance(self.config, SequencesConfig) else self._answers()
        if self.student.start is not None:
            extras = holding_zeros(self.student.start, extras)
        return fit(
            self.student.card,
            load_data,
            schedule(self.config, self.train),
            self.out,
            fingerprint=self.fingerprint,
            start=self.student.start,
            metric=self.metric,
            extras=extras,
        )

    def _answers(self) -> tuple[Callable[[], DataSet], Extras]:
        """Batches as they are, compared with what the teacher says of them."""
        lesson = Lesson.of(self.config.distill, self.config, self.teacher, self.work / _SAID, self.fingerprint)
        return lambda: self.student.data, lesson.extras()

    def _text(self, config: SequencesConfig) -> tuple[Callable[[], DataSet], Extras]:
        """Text that the teacher wrote, learnt as any other; and compared too where `also` asks for it."""
        place, known = self.work / _SAID, self.fingerprint
        writer = Writer(self.teacher, config.prompt, config.temperature, schedule(config, self.train).seed)
        load = partial(written_by, writer, self.student.data, share=config.weight, place=place, fingerprint=known)
        written = [writer.key, config.weight]
        if not config.further:
            return load, Extras(key=written)
        told = f"{known} {writer.key} {config.weight}"
        lesson = Lesson(self.teacher, config.further, 1.0, config, place, told)
        return load, lesson.extras(Extras(key=written))


def schedule(config: DistillConfig, trained: TrainConfig) -> TrainConfig:
    """How the student is trained: as the base was, but for what the step says; it starts and is frozen as it says."""
    said = {name: getattr(config.train, name) for name in config.train.model_fields_set}
    return trained.model_copy(update={"init": None, "freeze": [], **said})


def refuse_other_task(config: DistillConfig, task: str) -> None:
    """Refuse losses that mean nothing for a task.

    Raises:
        CompressError: for the first of them; the message says what to use.
    """
    if isinstance(config, SequencesConfig) and task != TASK:
        raise CompressError(f"`distill: sequences` is for {TASK}, and this is {task}; use `distill: logits`")
    for name in (config.distill, *config.further):
        loss = LOSSES.get(name)
        if loss and not loss.serves([task]):
            raise CompressError(f"`distill: {name}` {loss.refusal(task)}")
