"""Distillation as a step of a variant: one technique a loss, and one for text that the teacher wrote."""

from __future__ import annotations

from edgekit.compress.distill.config import (
    BASE,
    ITSELF,
    DecoupledConfig,
    DistillConfig,
    FeaturesConfig,
    LogitsConfig,
    OutputsConfig,
    RelationConfig,
    SequencesConfig,
    TransformerConfig,
)
from edgekit.compress.distill.losses import LOSSES
from edgekit.compress.distill.open import open_teachers
from edgekit.compress.distill.run import Distilling
from edgekit.compress.distill.student import Student, student_of
from edgekit.compress.prune.cost import both, count_macs, count_parameters, sample_of
from edgekit.compress.technique import StepResult, TorchStep, technique
from edgekit.data import DataSet
from edgekit.errors import CompressError
from edgekit.training.checkpoint import TrainedModel
from edgekit.training.start import start_key

AFTER_QUANTIZE = {"quantize": "it would train away what the fake quantisation has learnt; distil first"}


def distil(config: DistillConfig, step: TorchStep) -> StepResult:
    """Train a student on what its teacher says; an interrupted training goes on where it stopped.

    Raises:
        CompressError: if the loss is not for the task, or student, teacher and data do not go together.
        ModelError: if a teacher is not there or damaged.
        TrainingError: as `training.fit` raises it.
    """
    data = step.load_data()
    _refuse_itself(config, step)
    work = Distilling(
        config=config,
        student=student_of(config, step.model, data),
        teacher=open_teachers(config.teachers, data, step.base),
        train=step.train,
        out=step.out,
        work=step.work,
        fingerprint=step.fingerprint,
        metric=step.metric,
    )
    return _result(config, step, work.run(), data, work.student)


def _refuse_itself(config: DistillConfig, step: TorchStep) -> None:
    """Refuse a student that is the base, with the base as teacher."""
    if config.has_own_student or BASE not in config.teachers:
        return
    if start_key(None, step.model) == start_key(None, step.base()):
        raise CompressError(ITSELF)


def _result(
    config: DistillConfig, step: TorchStep, learnt: TrainedModel, data: DataSet, student: Student
) -> StepResult:
    """What is told of it: what it costs beside the model before, and how good it is."""
    samples = [sample_of(step.model, data.splits["calibration"]), sample_of(learnt, student.data.splits["calibration"])]
    before, after = (count_macs(m.module, x) for m, x in zip((step.model, learnt), samples, strict=True))
    parameters = [count_parameters(m.module) for m in (step.model, learnt)]
    details = {
        "macs": both(before, after),
        "parameters": both(*parameters),
        "links": [{"name": "distilled", "validation": step.validate(learnt)}],
        "teachers": list(config.teachers),
        "student": f"{learnt.card.family}/{learnt.card.size}",
    }
    reason = (
        f"{learnt.card.family}/{learnt.card.size} learnt {config.distill} of {' and '.join(config.teachers)}: "
        f"{before / max(1, after):.2f} times fewer MACs, {parameters[0] / parameters[1]:.2f} times fewer parameters"
    )
    return StepResult(True, reason, details=details)


_CONFIGS: tuple[type[DistillConfig], ...] = (
    LogitsConfig,
    DecoupledConfig,
    FeaturesConfig,
    TransformerConfig,
    RelationConfig,
    OutputsConfig,
)
for _config in _CONFIGS:
    _loss = LOSSES[_config.model_fields["distill"].default]
    technique(_config, stage="torch", summary=_loss.summary, paper=_loss.paper, not_after=AFTER_QUANTIZE)(distil)
technique(
    SequencesConfig,
    stage="torch",
    summary="text that the teacher writes after the beginning of each training text",
    paper="Kim and Rush 2016, arXiv:1606.07947",
    not_after=AFTER_QUANTIZE,
)(distil)
