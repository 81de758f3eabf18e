"""Distillation from the command line or from Python, without a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgekit.compress.distill.config import DistillConfig
from edgekit.compress.distill.open import classes_of, open_source, open_teachers
from edgekit.compress.distill.run import Distilling, schedule
from edgekit.compress.distill.student import Student, new_student, with_blocks
from edgekit.compress.distill.teacher import OnnxTeacher
from edgekit.compress.distill.unlabelled import is_unlabelled, labelled_by, load_unlabelled
from edgekit.compress.technique import TECHNIQUES
from edgekit.data import DataSet, resolve_source
from edgekit.errors import CompressError, unknown
from edgekit.families import FAMILIES
from edgekit.files import digest
from edgekit.load import adapted
from edgekit.tasks import Metric
from edgekit.training.checkpoint import TrainedModel, read_config
from edgekit.training.config import TrainConfig
from edgekit.training.processes import held

_VERB = "distill"


@dataclass(frozen=True)
class DistillRequest:
    """What to distil into what.

    Attributes:
        teachers: Checkpoint or Hugging Face directories, or .onnx files.
        student: "FAMILY:SIZE" or "FAMILY"; "" where `options` name the `layers` of the teacher to keep.
        data: Name of a data set, or path of an .npz, with labels or without.
        out: Checkpoint directory to write; held for this process while it trains.
        method: Name of the loss.
        options: Keys of the step, such as `temperature` and `train`, that differ from their defaults.
        metric: Which decides; None for that of the task.
    """

    teachers: Sequence[str]
    student: str
    data: str
    out: Path
    method: str = "logits"
    options: Mapping[str, Any] | None = None
    metric: Metric | None = None

    @cached_property
    def config(self) -> DistillConfig:
        """The step that it stands for.

        Raises:
            CompressError: for an unknown method or options that it refuses.
        """
        methods = {t.method: t.config for t in TECHNIQUES.values() if t.kind == _VERB}
        if self.method not in methods:
            raise CompressError(unknown("method of distillation", self.method, methods))
        family, _, size = self.student.partition(":")
        given = {"family": family, "size": size} if self.student else {}
        said = {_VERB: self.method, "teacher": list(self.teachers), **given, **(self.options or {})}
        try:
            found = methods[self.method].model_validate(said)
        except ValidationError as error:
            raise CompressError("\n".join(_explain(d, methods[self.method]) for d in error.errors())) from None
        if not isinstance(found, DistillConfig):
            raise CompressError(f"method {self.method!r} is no distillation")
        return found


def distil_model(request: DistillRequest) -> dict[str, Any]:
    """Train a student on what its teachers say.

    Returns:
        What the checkpoint's config.json says (card, training, validation metric), `teachers`, and `labels`: "data", or
        "teacher" where the data has none and the student is judged by the teacher's answers.

    Raises:
        EdgekitError: as loading, training and the checks of both raise it.
    """
    config, out = request.config, request.out
    with held(out, schedule(config, TrainConfig())):
        first = open_source(request.teachers[0])
        unlabelled = is_unlabelled(request.data)
        data, fingerprint = _data(request, first, unlabelled)
        teacher = open_teachers(request.teachers, data, None)
        if unlabelled:
            data, fingerprint = labelled_by(teacher, data), digest([fingerprint, teacher.key])
            if "weight" not in config.model_fields_set:
                config = config.model_copy(update={"weight": 1.0})
        work = Distilling(
            config=config,
            student=_student(config, first, data),
            teacher=teacher,
            train=TrainConfig(),
            out=out,
            work=out / "work",
            fingerprint=fingerprint,
            metric=request.metric,
        )
        work.run()
    told = {"teachers": list(request.teachers), "labels": "teacher" if unlabelled else "data"}
    return {"out": str(out), **read_config(out), **told}


def _data(request: DistillRequest, first: TrainedModel | OnnxTeacher, unlabelled: bool) -> tuple[DataSet, str]:
    """The data for the task of the teacher, as its source gives it, and its fingerprint."""
    task, classes = _told(first)
    source = resolve_source(request.data)
    family = FAMILIES.get(request.config.family)
    possible = [t for t in (family.tasks if family else source.tasks) if task in ("", t)]
    if unlabelled:
        return load_unlabelled(request.data, task or "classification", classes), source.fingerprint(None)
    return source.load(None, source.task_for(possible or [task])), source.fingerprint(None)


def _told(model: TrainedModel | OnnxTeacher) -> tuple[str, tuple[str, ...]]:
    """Task and classes of a teacher, as far as it says them."""
    if isinstance(model, TrainedModel):
        return model.card.task, model.card.classes
    told = model.session.metadata
    return told.get("edgekit.task", ""), classes_of(told)


def _student(config: DistillConfig, first: TrainedModel | OnnxTeacher, data: DataSet) -> Student:
    if config.layers is None:
        if not config.family:
            raise CompressError("say what is to learn: --student FAMILY:SIZE, or --layers 0,2,5 of the teacher")
        return new_student(config.family, config.size or "small", data)
    if isinstance(first, OnnxTeacher):
        raise CompressError("layers: can be taken from a torch model only, and the teacher is an ONNX file")
    start = with_blocks(adapted(first, data, trains=False), config.layers)
    splits = {name: replace(s, arrays=s.matched(start.inputs).arrays) for name, s in data.splits.items()}
    return Student(start.card, start, replace(data, inputs=start.inputs, splits=splits))


def _explain(detail: Any, config: Any) -> str:
    """One mistake of the options, with the nearest name for an unknown one."""
    place = ".".join(str(part) for part in detail["loc"] if " " not in str(part))  # but for branches of unions
    if detail["type"] == "extra_forbidden" and len(detail["loc"]) == 1:
        return unknown("option", place, [n for n in config.model_fields if n != _VERB], of=_VERB)
    if detail["type"] == "extra_forbidden" and detail["loc"][:-1] == ("train",):
        return unknown("training option", str(detail["loc"][-1]), TrainConfig.model_fields)
    said = detail["msg"].removeprefix("Value error, ")
    return f"{place}: {said}, got {detail['input']!r}" if detail["type"] != "value_error" else said
