"""What is taught by whom: from it comes what a training makes smaller."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.compress.distill.answers import keep_answers, view_of
from edgekit.compress.distill.config import BASE
from edgekit.compress.distill.losses import LOSSES, Pair
from edgekit.compress.distill.open import open_teachers
from edgekit.compress.distill.teacher import Teacher, for_teacher
from edgekit.compress.technique import TorchStep
from edgekit.data import DataSet
from edgekit.errors import CompressError
from edgekit.training.checkpoint import TrainedModel
from edgekit.training.config import AugmentConfig, TrainConfig
from edgekit.training.extras import NOTHING, Extras
from edgekit.training.teaching import TaughtConfig, TeachingConfig

if TYPE_CHECKING:
    from edgekit.compress.distill.objective import Ask
    from edgekit.training.objective import LearningBatch, Objective
    from edgekit.training.seen import Seen, Spot


@dataclass(frozen=True)
class Lesson:
    """What is taught by whom.

    Attributes:
        teacher: Who.
        losses: Name of each loss -> what it is multiplied by.
        share: Of the labels' loss.
        options: Of the losses.
        place: Directory for what the teacher said.
        fingerprint: Of the data.
    """

    teacher: Teacher
    losses: dict[str, float]
    share: float
    options: TeachingConfig
    place: Path
    fingerprint: str

    @classmethod
    def of(cls, method: str, options: TeachingConfig, teacher: Teacher, place: Path, fingerprint: str) -> Lesson:
        """That of a method: `weight` of its loss, the rest of the labels', and what `also` asks for."""
        losses = {method: options.weight, **options.further}
        return cls(teacher, losses, 1 - options.weight, options, place, fingerprint)

    def extras(self, before: Extras = NOTHING) -> Extras:
        """What `training.fit` takes; on top of other additions to the same training."""
        said = self.options.model_dump(mode="json", exclude_defaults=True)
        taught = {"teacher": self.teacher.key, "losses": self.losses, "share": self.share, "options": said}
        return replace(before, key=[before.key, taught], objective=self.objective)

    def objective(self, model: TrainedModel, data: DataSet, config: TrainConfig) -> Objective:
        """What a model in training makes smaller.

        Raises:
            CompressError: if the two do not go together, or the teacher's answers are not finite.
        """
        from edgekit.compress.distill.objective import Distillation

        pair = self._pair(model, data)
        self._refuse_other_outputs(pair, data)
        terms = [(weight, LOSSES[name].make(self.options, pair)) for name, weight in self.losses.items()]
        spots = tuple(dict.fromkeys(spot for _, term in terms for spot in term.teacher))
        kept = None if spots or not may_keep(config, data) else self._kept(model, data, config)
        return Distillation(terms, self.share, kept or self._live(data.task, spots))

    def _pair(self, model: TrainedModel, data: DataSet) -> Pair:
        import torch

        two = data.splits["train"].take(2).arrays
        inputs = {s.name: torch.from_numpy(two[s.name]) for s in model.inputs}
        seen = for_teacher(self.teacher.inputs, inputs, data.task, self.teacher.name)
        name = f"teacher {self.teacher.name}"
        return Pair(model.module, self.teacher.module, list(inputs.values()), seen, data.task, name)

    def _refuse_other_outputs(self, pair: Pair, data: DataSet) -> None:
        ours = _shape_of_answer(pair)
        theirs = tuple(self.teacher.look(pair.teacher_inputs).outputs[0].shape[1:])
        if ours != theirs:
            what = "classes" if len(data.classes) > 1 and len(ours) == 1 else "as outputs"
            raise CompressError(
                f"teacher {self.teacher.name} gives {_written(theirs)} {what}, and the student gives {_written(ours)}; "
                f"give a teacher that was trained for {data.name}"
            )

    def _kept(self, model: TrainedModel, data: DataSet, config: TrainConfig) -> Ask | None:
        from edgekit.training.seen import Seen

        answers = keep_answers(
            self.teacher,
            data.splits["train"],
            [s.name for s in model.inputs],
            task=data.task,
            place=self.place,
            fingerprint=self.fingerprint,
            mirrored=config.augment.flip,
        )
        if answers is None:
            return None
        return lambda batch: Seen(answers.take(batch.samples, view_of(batch.stored, batch.inputs)))

    def _live(self, task: str, spots: tuple[Spot, ...]) -> Ask:
        def ask(batch: LearningBatch) -> Seen:
            inputs = for_teacher(self.teacher.inputs, batch.inputs, task, self.teacher.name)
            seen = self.teacher.look(inputs, spots)
            _refuse_nonsense(seen, self.teacher.name, batch)
            return seen

        return ask


def taught_by_base(step: TorchStep, config: TaughtConfig, before: Extras = NOTHING) -> Extras:
    """What training in a step takes to learn from the model that the variant started from.

    Args:
        step: Whose base is the teacher.
        config: How it teaches.
        before: Other additions to the same training.
    """
    teacher = open_teachers([BASE], step.load_data(), step.base)
    return Lesson.of(config.method, config, teacher, step.work / "teacher", step.fingerprint).extras(before)


def may_keep(config: TrainConfig, data: DataSet) -> bool:
    """Whether the teacher sees the same in every epoch: stored samples, at most mirrored."""
    still = config.augment.model_copy(update={"flip": False}) == AugmentConfig()
    cut = data.task == "sequence-to-sequence"  # each batch to its own longest sample
    return still and not cut and config.adversarial is None and not data.latents


def _shape_of_answer(pair: Pair) -> tuple[int, ...]:
    """What the student gives for a sample."""
    from edgekit.compress.distill.spots import passed_by

    return passed_by(pair.student, pair.student_inputs)[-1].shape[1:]


def _refuse_nonsense(seen: Seen, name: str, batch: LearningBatch) -> None:
    import torch

    if not all(bool(torch.isfinite(o).all()) for o in seen.outputs):
        raise CompressError(
            f"teacher {name} gives NaN or Inf for training samples {', '.join(map(str, batch.samples[:3].tolist()))}, "
            "…; mend its weights, or take another teacher"
        )


def _written(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"
