"""What a step of distillation may say. Every default of it stands here, or in `training.teaching`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from edgekit.compress.technique import StepConfig
from edgekit.errors import unknown
from edgekit.families import FAMILIES
from edgekit.training.config import TrainConfig
from edgekit.training.teaching import TeachingConfig

BASE = "base"
ITSELF = (
    "the student is the base itself, and so is the teacher; say what is to learn by `size`, `family` or `layers`, or "
    "prune before"
)
_Index = Annotated[int, Field(ge=0)]


class _Verb(StepConfig):
    """The step's first key."""

    distill: str = ""


class DistillConfig(TeachingConfig, _Verb):
    """Distillation into a model of any family and size, into some blocks of the base, or into a pruned copy of it."""

    teacher: Annotated[
        str | list[str],
        Field(description="base, a checkpoint or Hugging Face directory, an .onnx file, or several of them"),
    ] = BASE
    family: Annotated[str, Field(description="of the student; that of the base by default")] = ""
    size: Annotated[str, Field(description="of the student")] = ""
    layers: Annotated[
        list[_Index] | None,
        Field(min_length=1, description="the student is these blocks of the base, counted from 0, and all around them"),
    ] = None
    train: Annotated[
        TrainConfig, Field(description="what differs from how the base was trained; the schedule of the student")
    ] = TrainConfig()

    @property
    def teachers(self) -> tuple[str, ...]:
        """What each teacher is loaded from; "base" for the uncompressed model."""
        return (self.teacher,) if isinstance(self.teacher, str) else tuple(self.teacher)

    @property
    def has_own_student(self) -> bool:
        """Whether it says what the student is; otherwise that is the model as earlier steps left it."""
        return bool(self.family or self.size or self.layers)

    @property
    def becomes(self) -> str:
        """See StepConfig."""
        return self.family

    @property
    def reads(self) -> tuple[str, ...]:
        """See StepConfig."""
        return tuple(name for name in self.teachers if name != BASE)

    def objections(self, family: str, earlier: Sequence[str]) -> Iterator[str]:
        """See StepConfig: a size that the family has not, or nothing to learn."""
        known = FAMILIES.get(self.family or family)
        if self.size and known is None:
            yield "the base is of no family of edgekit; give `family` beside `size`, or `layers` of the base to keep"
        elif self.size and known and self.size not in known.sizes:
            yield known.no_size(self.size)
        if not self.has_own_student and BASE in self.teachers and not earlier:
            yield ITSELF
        lost = next((name for name in reversed(earlier) if name.startswith("prune:")), "")
        if (self.family or self.size) and lost:
            yield (
                f"`size` and `family` build a new student, and what `{lost}` did before is lost; put that behind it, "
                "or leave them out to teach the model that it left"
            )
        yield from self._other_tasks(known.tasks if known else ())

    def _other_tasks(self, tasks: Sequence[str]) -> Iterator[str]:
        """Why a loss means nothing for what a family does."""
        from edgekit.compress.distill.losses import LOSSES

        for name in (self.distill, *self.further):
            loss = LOSSES.get(name)
            if loss and tasks and not loss.serves(tasks):
                yield f"{name} {loss.refusal(tasks[0])}"

    @field_validator("family")
    @classmethod
    def _known_family(cls, value: str) -> str:
        if value and value not in FAMILIES:
            raise ValueError(unknown("family", value, FAMILIES))
        return value

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.layers and (self.family or self.size):
            raise ValueError(
                "layers: takes blocks of the base, and `family` or `size` builds another model; choose one"
            )
        if not self.teachers:
            raise ValueError("teacher: an empty list; name at least one, or leave it out for the base")
        if self.layers and sorted(set(self.layers)) != self.layers:
            raise ValueError(f"layers: must rise, such as [0, 2, 5], got {self.layers}")
        self.refuse_unused(self.distill)
        return self


class LogitsConfig(DistillConfig):
    """The teacher's probabilities."""

    distill: Literal["logits"] = "logits"


class DecoupledConfig(DistillConfig):
    """Right class and wrong classes apart."""

    distill: Literal["decoupled"] = "decoupled"


class FeaturesConfig(DistillConfig):
    """Maps inside, through a projection."""

    distill: Literal["features"] = "features"


class TransformerConfig(DistillConfig):
    """Attention and hidden states."""

    distill: Literal["transformer"] = "transformer"


class RelationConfig(DistillConfig):
    """Distances and angles between samples."""

    distill: Literal["relation"] = "relation"


class OutputsConfig(DistillConfig):
    """Numbers and pictures."""

    distill: Literal["outputs"] = "outputs"


class SequencesConfig(DistillConfig):
    """Text that the teacher wrote; `weight` is the share of the training texts that it goes on with."""

    distill: Literal["sequences"] = "sequences"
    temperature: Annotated[float, Field(gt=0, le=100, description="of the teacher's draw, and of `also`")] = 1.0
    prompt: Annotated[float, Field(gt=0, lt=1, description="share of each text that is kept as its beginning")] = 0.25
