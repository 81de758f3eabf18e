"""What a model comes from, as a recipe's `model:` and the flags of `edgekit export` say it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from edgekit.errors import ModelError, unknown
from edgekit.families import FAMILIES
from edgekit.files import digest, sha256_of
from edgekit.load.builder import Builder
from edgekit.load.causal_module import build_causal
from edgekit.load.foreign import Description, WeightFile, load_built, load_family, values_of
from edgekit.load.hub import hub_directory, is_hub_id
from edgekit.load.hugging_face import build_hugging_face, load_hugging_face
from edgekit.load.inputs import input_spec
from edgekit.load.language import GGUF, find_head
from edgekit.load.mapping import WeightMapping
from edgekit.load.pretrained import is_hugging_face
from edgekit.load.text_classifier import build_text_classifier, load_text_classifier
from edgekit.load.trained_graph import build_graph
from edgekit.load.weights import SUFFIXES
from edgekit.specs import TensorSpec
from edgekit.tasks import TASKS
from edgekit.training.checkpoint import TrainedModel, load_checkpoint, read_config
from edgekit.training.edits import apply_edits
from edgekit.training.start import replace_head

if TYPE_CHECKING:
    from torch import nn

_WEIGHTS = frozenset({"weights", "entry", "mapping", "inputs", "classes", "task"})
# What a source is -> the keys that go with it.
KINDS: dict[str, frozenset[str]] = {
    "onnx": frozenset(),
    "checkpoint": frozenset({"builder", "arguments"}),
    "hf": frozenset({"trust_remote_code"}),
    "builder": frozenset({"arguments"}) | _WEIGHTS,
    "family": frozenset({"size"}) | _WEIGHTS,
}


class ModelSource(BaseModel):
    """A model that is there already; exactly one of `onnx`, `checkpoint`, `hf`, `builder` and `family`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    onnx: Annotated[str | None, Field(description="an .onnx file")] = None
    checkpoint: Annotated[str | None, Field(description="a directory that `edgekit train` wrote")] = None
    hf: Annotated[str | None, Field(description="a Hugging Face directory or hub id, or a .gguf file")] = None
    builder: Annotated[str | None, Field(description="package.module:function or file.py:function")] = None
    arguments: Annotated[dict[str, Any], Field(description="keyword arguments of the builder")] = {}
    family: Annotated[str | None, Field(description="a family of edgekit, for `weights` from elsewhere")] = None
    size: str = "small"
    weights: Annotated[str | None, Field(description="a .safetensors or torch file")] = None
    entry: Annotated[str, Field(description="name of the mapping in the file that holds the weights")] = ""
    mapping: WeightMapping = WeightMapping()
    inputs: Annotated[dict[str, str], Field(description="name: 1x3x224x224, where the data does not say it")] = {}
    classes: Annotated[int | None, Field(gt=0, description="how many it has, where the data has others")] = None
    task: Annotated[str, Field(description="what the outputs mean; by default what the data is for")] = ""
    trust_remote_code: bool = False

    @field_validator("task")
    @classmethod
    def _known_task(cls, value: str) -> str:
        if value and value not in TASKS:
            raise ValueError(unknown("task", value, TASKS))
        return value

    @field_validator("family")
    @classmethod
    def _known_family(cls, value: str | None) -> str | None:
        if value is not None and value not in FAMILIES:
            raise ValueError(unknown("family", value, FAMILIES))
        return value

    @field_validator("inputs")
    @classmethod
    def _readable(cls, value: dict[str, str]) -> dict[str, str]:
        for name, shape in value.items():
            _spec(name, shape)
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = self.model_fields_set - {k for k in KINDS if getattr(self, k) is None}
        kind = _kind(given)
        if not kind:
            raise ValueError(f"say what the model is: exactly one of the keys {', '.join(KINDS)}")
        odd = sorted(given - KINDS[kind] - {kind})
        if odd:
            raise ValueError(f"{', '.join(f'`{key}`' for key in odd)} does not go with `{kind}`")
        if kind == "family" and self.weights is None:
            raise ValueError("`family` needs `weights`, a .safetensors or torch file; to train it, put it outside")
        return self

    @property
    def kind(self) -> str:
        """Which of KINDS it is."""
        return _kind({k for k in KINDS if getattr(self, k) is not None})

    @property
    def subject(self) -> str:
        """What it is, in few words."""
        named = f"{self.family}/{self.size} with {self.weights}" if self.kind == "family" else getattr(self, self.kind)
        return f"{named}" + (f" with {self.weights}" if self.kind == "builder" and self.weights else "")

    def specs(self) -> tuple[TensorSpec, ...]:
        """The inputs that it says."""
        return tuple(_spec(name, shape) for name, shape in self.inputs.items())

    def weight_file(self) -> WeightFile | None:
        """The weights that it says."""
        return WeightFile(Path(self.weights), self.entry, self.mapping) if self.weights else None

    def code(self) -> Builder | None:
        """The code of the user that it says."""
        return Builder(self.builder, self.arguments) if self.builder else None


def _kind(given: set[str]) -> str:
    found = [k for k in KINDS if k in given]
    if found == ["checkpoint", "builder"]:
        return "checkpoint"
    return found[0] if len(found) == 1 else ""


def _spec(name: str, text: str) -> TensorSpec:
    shape, _, dtype = text.partition(":")
    try:
        return input_spec(name, shape, dtype or "float32")
    except ModelError as error:
        raise ValueError(str(error)) from None


@dataclass(frozen=True)
class Hints:
    """What was said of a source beside its path.

    Attributes:
        family: Of ours, that weights are for.
        size: Of the family.
        builder: The user's code.
        arguments: Of the builder.
        entry: Of a file with several state dicts.
        mapping: Of names.
        trust_remote_code: Of a Hugging Face directory.
    """

    family: str | None = None
    size: str | None = None
    builder: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    entry: str = ""
    mapping: WeightMapping | None = None
    trust_remote_code: bool = False

    def given(self) -> dict[str, Any]:
        """What differs from saying nothing."""
        return {k: v for k, v in vars(self).items() if v}


def recognise(source: str | None, hints: Hints | None = None) -> ModelSource:
    """What a path, a hub id or nothing but a builder stands for.

    Raises:
        ModelError: if it cannot be told, or a hint makes no sense for it.
    """
    hints = hints or Hints()
    found = _recognised(source, hints)
    try:
        return ModelSource.model_validate(found | hints.given())
    except ValidationError as error:
        said = "; ".join(d["msg"].removeprefix("Value error, ") for d in error.errors())
        raise ModelError(f"{source or hints.builder}: {said}") from None


def _recognised(source: str | None, hints: Hints) -> dict[str, Any]:
    if source is None:
        if not hints.builder:
            raise ModelError("nothing to export: give a SOURCE, or --builder package.module:function")
        return {}
    path = Path(source)
    if path.suffix.lower() == GGUF:
        return {"hf": source}
    if path.is_dir():
        return {"hf": source} if is_hugging_face(path) else {"checkpoint": source}
    if path.suffix.lower() in SUFFIXES or hints.family or hints.builder:
        if not hints.family and not hints.builder:
            raise ModelError(
                f"{source} holds weights, not what to do with them; say it: --family F --size S --input "
                "image=1x3x224x224 --classes N, or --builder package.module:function --input image=1x3x224x224"
            )
        return {"weights": source}
    if not path.exists() and is_hub_id(source):
        return {"hf": source}
    return {"onnx": source}


def load_model(source: ModelSource, described: Description) -> TrainedModel:
    """Load what is no ONNX file.

    Args:
        source: Where it comes from.
        described: What the data or the user says of it; the source's own inputs come first.

    Raises:
        EdgekitError: one that names the file and says what is wrong with it.
    """
    if source.inputs:
        described = replace(described, inputs=source.specs())
    if source.classes:
        described = replace(described, classes=tuple(map(str, range(source.classes))))
    loaders: dict[str, Callable[[], TrainedModel]] = {
        "checkpoint": lambda: open_checkpoint(Path(source.checkpoint or ""), source.code()),
        "hf": lambda: _load_hugging_face(hugging_face_place(source.hf or ""), source.trust_remote_code),
        "builder": lambda: load_built(_code(source), source.weight_file(), described),
        "family": lambda: load_family(source.family or "", source.size, _weights(source), described),
    }
    if source.kind not in loaders:
        raise ModelError(f"{source.onnx} is ONNX already, and no torch model")
    return loaders[source.kind]()


def open_checkpoint(directory: Path, builder: Builder | None = None) -> TrainedModel:
    """Load a checkpoint directory of ours, also one whose architecture is not ours.

    Args:
        directory: That `edgekit train` or `edgekit run` wrote.
        builder: The user's code that built it; only code that is named again runs.

    Raises:
        ModelError: if it is damaged, or was built by code that is not named.
    """
    card = read_config(directory)["card"]
    architecture, edits = card.get("architecture") or {}, card.get("edits", {})
    if "graph" in architecture:
        return load_checkpoint(directory, build_graph(directory, architecture["graph"]))
    if "hf" in architecture:
        builders = {"text": build_text_classifier, "causal": build_causal}
        build = next((b for kind, b in builders.items() if architecture.get(kind)), build_hugging_face)
        module = apply_edits(_with_head(build(architecture["hf"]), architecture), edits)
        return load_checkpoint(directory, module)
    if "builder" not in architecture:
        return load_checkpoint(directory)
    if builder is None:
        raise ModelError(
            f"{directory} was built by the code {architecture['builder']}; edgekit runs no code that a file names, "
            f"name it yourself: --builder {architecture['builder']}"
        )
    arguments = builder.arguments or architecture.get("arguments", {})
    module = replace(builder, arguments=arguments).build()
    module = values_of(module) if architecture.get("values") else module
    return load_checkpoint(directory, apply_edits(_with_head(module, architecture), edits))


def _with_head(module: nn.Module, architecture: Mapping[str, Any]) -> nn.Module:
    """The module with the last layer that fine-tuning gave it."""
    head = architecture.get("head")
    if head:
        replace_head(module, head["replaces"], head["outputs"])
    return module


def fingerprint(source: ModelSource) -> str:
    """Changes with the content of every file that the source names."""
    named = [source.onnx, source.weights, source.hf, (source.builder or "").rpartition(":")[0]]
    files = [Path(n) for n in named if n and Path(n).is_file()]
    for place in (source.checkpoint, source.hf):
        if place and Path(place).is_dir():
            files += sorted(p for p in Path(place).iterdir() if p.is_file() and p.suffix in (".json", *SUFFIXES))
    return digest([source.model_dump(), [sha256_of(f) for f in files]])


def hugging_face_place(place: str) -> Path:
    """The directory or .gguf file that a Hugging Face source names; downloaded where it is a hub id.

    Raises:
        ModelError: if it is none of them, or cannot be had.
    """
    if Path(place).is_dir() or Path(place).suffix.lower() == GGUF:
        return Path(place)
    if not is_hub_id(place):
        raise ModelError(f"{place} is neither a directory nor a hub id such as google/vit-base-patch16-224")
    return hub_directory(place)


def _load_hugging_face(place: Path, trust_remote_code: bool) -> TrainedModel:
    """An image classifier, or an encoder of text as a classifier."""
    head = find_head(place)
    if head is not None:
        return load_text_classifier(place, head, trust_remote_code=trust_remote_code)
    return load_hugging_face(place, trust_remote_code=trust_remote_code)


def _code(source: ModelSource) -> Builder:
    builder = source.code()
    if builder is None:
        raise ModelError("no builder is named")
    return builder


def _weights(source: ModelSource) -> WeightFile:
    weights = source.weight_file()
    if weights is None:
        raise ModelError(f"family {source.family!r} needs a file of weights")
    return weights
