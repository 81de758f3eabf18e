"""What a recipe may say. Defaults stand in the config classes that it is made of."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

import edgekit.search  # noqa: F401  registers `quantize: auto`
from edgekit.bench.config import BenchConfig
from edgekit.compress import TECHNIQUES, StepConfig, Target, misplaced, name_of
from edgekit.data import SOURCES, TextConfig, resolve_source
from edgekit.data.text.config import SUFFIXES
from edgekit.errors import DataError, unknown
from edgekit.families import FAMILIES
from edgekit.load import ModelSource
from edgekit.training.config import AttackConfig, TrainConfig

NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
BASE = "base"
_KINDS = tuple(dict.fromkeys(t.kind for t in TECHNIQUES.values()))


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def step_name(value: Any) -> str:
    """The technique that a step asks for, such as "quantize: static"; tells the union which config to use."""
    if isinstance(value, StepConfig):
        return name_of(value)
    said = [f"{k}: {value[k]}" for k in _KINDS if isinstance(value, dict) and k in value]
    names = [name for name in said if name in TECHNIQUES] or said  # `distill: true` is an option of another step
    return names[0] if len(names) == 1 else ""


_UNION: Any = functools.reduce(operator.or_, (Annotated[t.config, Tag(name)] for name, t in TECHNIQUES.items()))
Step: Any = Annotated[_UNION, Discriminator(step_name)]
Steps = Annotated[list[Step], Field(min_length=1)]


DATA_TAGS = ("a name", "a mapping")  # no keys of a text's mapping


def _kind_of_data(value: Any) -> str:
    """Whether `data` is a name or says more of a text."""
    return DATA_TAGS[0] if isinstance(value, str) else DATA_TAGS[1]


Data = Annotated[
    Annotated[str, Tag(DATA_TAGS[0])] | Annotated[TextConfig, Tag(DATA_TAGS[1])], Discriminator(_kind_of_data)
]


class ExportConfig(_Part):
    """How to export."""

    opset: Annotated[int | None, Field(description="opset of the default domain; 18 by default")] = None
    target_ort: Annotated[str | None, Field(description='oldest ONNX Runtime that must load it, such as "1.16"')] = None
    part: Annotated[
        Literal["cache", "streaming"] | None,
        Field(
            description="cache: a language model that takes and gives keys and values; streaming: a recurrent one that "
            "takes chunks, and its state"
        ),
    ] = None
    max_length: Annotated[
        int | None,
        Field(ge=2, description="tokens of the longest text; positions beyond are cut, longer texts refused"),
    ] = None
    trim_vocabulary: Annotated[
        bool, Field(description="keep the tokens of the training texts, of a loaded model; rows of the others go")
    ] = False

    @property
    def cuts(self) -> bool:
        """Whether something of the model is left out."""
        return self.trim_vocabulary or self.max_length is not None

    def as_key(self) -> dict[str, Any]:
        """What changes the file."""
        return {k: v for k, v in self.model_dump().items() if k in ("opset", "target_ort") or v}


class AcceptConfig(_Part):
    """What a variant must keep."""

    max_drop: Annotated[
        float | None, Field(ge=0, description="largest allowed loss of the metric, in its unit, on the test split")
    ] = None
    max_relative_drop: Annotated[
        float | None, Field(ge=0, description="largest allowed loss as a share of the base's metric, such as 0.01")
    ] = None
    min_snr: Annotated[
        float | None, Field(description="least signal-to-noise ratio of the outputs against the base's, in dB")
    ] = None

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if self.max_drop is self.max_relative_drop is self.min_snr is None:
            raise ValueError("asks for nothing; give at least one of max_drop, max_relative_drop, min_snr")
        return self


class ReportConfig(_Part):
    """What the report holds."""

    pictures: Annotated[bool, Field(description="confusion, confidence, saliency, activations, images")] = True


class PackConfig(_Part):
    """The bundle that a run ends with: `bundle` in its output directory."""

    variant: Annotated[str, Field(description="best, all, or the name of one")] = "best"
    samples: Annotated[int, Field(gt=0, le=100, description="golden samples")] = 3
    version: Annotated[str, Field(description="of the bundle")] = "1"
    license: Annotated[str, Field(description="of the model, such as Apache-2.0")] = ""
    description: Annotated[str, Field(description="one sentence")] = ""


class RobustConfig(AttackConfig):
    """Judging under attack: the base, and every compression step of every variant."""

    steps: Annotated[int, Field(gt=0, description="of pgd")] = 20
    samples: Annotated[int, Field(gt=0, description="test samples to attack, at most")] = 1000


class Recipe(_Part):
    """A recipe: what to train, how to compress it, where to measure it, and what must be kept."""

    name: str
    model: Annotated[ModelSource | None, Field(description="to load, in the place of a family to train")] = None
    family: Annotated[str, Field(validate_default=True)] = ""
    size: str = "small"
    data: Data
    target: Target = "cpu"
    train: TrainConfig = TrainConfig()
    export: ExportConfig = ExportConfig()
    variants: dict[str, Steps] = Field(default_factory=dict)
    bench: BenchConfig = BenchConfig()
    accept: AcceptConfig | None = None
    report: ReportConfig = ReportConfig()
    robust: Annotated[RobustConfig | None, Field(description="accuracy under attack; not measured by default")] = None
    pack: Annotated[PackConfig | None, Field(description="what apps embed; nothing is packed by default")] = None

    @field_validator("name")
    @classmethod
    def _named(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError(f"name {value!r} must be lower-case letters, digits, '.', '_' and '-'")
        return value

    @field_validator("family")
    @classmethod
    def _known_family(cls, value: str, info: ValidationInfo) -> str:
        loads = info.data.get("model", "a damaged one") is not None
        if loads and value:
            raise ValueError("does not go with `model`; put it inside to load its weights, or leave one of them out")
        if not value and not loads:
            raise ValueError("is missing; add it, or `model` to load a trained one")
        if value and value not in FAMILIES:
            raise ValueError(unknown("family", value, FAMILIES))
        return value

    @property
    def fine_tunes(self) -> bool:
        """Whether a loaded model is trained on: where `train` stands beside `model`."""
        return self.model is not None and "train" in self.model_fields_set

    @property
    def subject(self) -> str:
        """What the base model is, in few words."""
        return self.model.subject if self.model else f"{self.family}/{self.size}"

    @field_validator("size")
    @classmethod
    def _known_size(cls, value: str, info: ValidationInfo) -> str:
        family = FAMILIES.get(info.data.get("family", ""))
        if info.data.get("model") is not None:
            raise ValueError("does not go with `model`; put it inside")
        if family and value not in family.sizes:
            raise ValueError(family.no_size(value))
        return value

    @field_validator("data")
    @classmethod
    def _known_data(cls, value: str | TextConfig, info: ValidationInfo) -> str | TextConfig:
        if isinstance(value, str) and value.endswith(".npz"):
            return value
        if isinstance(value, str) and value not in SOURCES and not value.endswith(SUFFIXES):
            raise ValueError(unknown("data", value, SOURCES) + "; or the path of an .npz with an array `labels`")
        try:
            source = resolve_source(value)
        except DataError as error:
            raise ValueError(str(error)) from None
        family = FAMILIES.get(info.data.get("family", ""))
        if family and not set(source.tasks) & set(family.tasks):
            raise ValueError(
                f"data {source.name!r} is for {', '.join(source.tasks)}; "
                f"family {family.name!r} does {', '.join(family.tasks)}"
            )
        return value

    @field_validator("robust")
    @classmethod
    def _attackable(cls, value: RobustConfig | None, info: ValidationInfo) -> RobustConfig | None:
        family, source = FAMILIES.get(info.data.get("family", "")), SOURCES.get(info.data.get("data", ""))
        task = source.task_for(family.tasks) if family and source else "classification"
        if value is not None and task != "classification":
            raise ValueError(f"attacks are for classification, and this is {task}; leave `robust` out")
        return value

    @field_validator("variants")
    @classmethod
    def _variant_names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if name == BASE or not NAME.fullmatch(name):
                rule = "lower-case letters, digits, '.', '_' and '-'"
                raise ValueError(
                    f"a variant cannot be called {name!r}; use {rule}, and not {BASE!r}, the uncompressed model"
                )
        return value

    @field_validator("pack")
    @classmethod
    def _known_variant(cls, value: PackConfig | None, info: ValidationInfo) -> PackConfig | None:
        allowed = ("best", "all", BASE, *info.data.get("variants", {}))
        if value is not None and "variants" in info.data and value.variant not in allowed:
            raise ValueError(unknown("variant", value.variant, allowed))
        return value

    @model_validator(mode="after")
    def _family_can(self) -> Self:
        """Refuse steps that make no sense for the family, all of them at once."""
        if self.model and self.model.onnx and self.fine_tunes:
            raise ValueError("train: an ONNX file cannot be trained; name the torch model that it was made of")
        if self.model and self.model.onnx and self.robust:
            raise ValueError("robust: attacks need the torch model, and an ONNX file is loaded; leave it out")
        if self.export.part:
            self._has_the_part(self.export.part)
        if self.export.trim_vocabulary and self.model is None:
            raise ValueError("export: a tokeniser that is learnt here is as small as `data.vocabulary` says; set that")
        mistakes = [
            f"variants.{variant}[{index}]: {said}"
            for variant, steps in self.variants.items()
            for index, said in self._senseless(steps)
        ]
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self

    def _has_the_part(self, part: str) -> None:
        """Refuse a part that the model has not, before anything is trained."""
        family, size = (self.model.family, self.model.size) if self.model else (self.family, self.size)
        if not family or part not in FAMILIES[family].parts:
            raise ValueError(
                f"export: {self.subject} has no part {part!r}; leave it out (a language model of Hugging Face is "
                "exported with its cache anyway)"
            )
        refused = FAMILIES[family].parts[part].refuses(FAMILIES[family].sizes[size])
        if refused:
            raise ValueError(f"export: {refused}, or leave `part` out")
        if self.robust:
            raise ValueError(f"robust: attacks are on whole models, and `export` takes the part {part!r}; leave it out")

    def _senseless(self, steps: Sequence[StepConfig]) -> Iterator[tuple[int, str]]:
        """Steps of a variant that the family refuses, that need another model, or that stand in the wrong place."""
        family = (self.model.family if self.model else self.family) or ""
        names = [name_of(step) for step in steps]
        for index, (name, step) in enumerate(zip(names, steps, strict=True)):
            refused = FAMILIES[family].refuses if family else {}
            if name in refused:
                yield index, f"family {family!r} refuses `{name}`: {refused[name]}"
            if TECHNIQUES[name].stage == "torch" and self.model and self.model.onnx:
                yield index, f"`{name}` needs the torch model, and an ONNX file is loaded; leave it out"
            if TECHNIQUES[name].stage == "torch" and self.export.cuts:
                yield index, f"`{name}` trains the whole model, and `export` cuts some of it off; leave one of them out"
            yield from ((index, f"`{name}`: {said}") for said in step.objections(family, names[:index]))
            family = step.becomes or family
        yield from misplaced(names)
