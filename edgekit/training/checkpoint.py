"""Checkpoints: model.safetensors and config.json in a directory, and nothing that can run code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit import __version__
from edgekit.errors import MissingPackageError, ModelError, brief, unknown
from edgekit.families import FAMILIES
from edgekit.files import replacing, sha256_of, write_json
from edgekit.specs import Array, Feeds, TensorSpec
from edgekit.tasks import TASKS
from edgekit.training.edits import apply_edits

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS, CONFIG = "model.safetensors", "config.json"


@dataclass(frozen=True)
class ModelCard:
    """What must be known to build a model again and to use it.

    Attributes:
        family: Name of the family.
        size: Name of the size.
        task: Name of the task.
        data: Name of the data it was trained on.
        classes: Names of its outputs.
        inputs: What the data holds.
        preprocessing: What was done to stored samples before they went in.
        target_scale: (mean, standard deviation) of the numbers to predict; None for other tasks.
        outputs: Names of the outputs; () where the task names them.
        architecture: What builds a model that is of no family of ours (see `edgekit.load`); {} for our families.
        part: Name of the part of the family's model that this is; "" for the whole.
        edits: What pruning took out of the module after it was built (see `training.edits`); {} for nothing.
    """

    family: str
    size: str
    task: str
    data: str
    classes: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    preprocessing: dict[str, Any]
    target_scale: tuple[float, float] | None = None
    outputs: tuple[str, ...] = ()
    architecture: dict[str, Any] = field(default_factory=dict)
    part: str = field(default="", repr=False)  # training does not depend on it
    edits: dict[str, Any] = field(default_factory=dict)

    @property
    def size_arguments(self) -> Mapping[str, Any]:
        """The keyword arguments of the size, as they are after pruning."""
        return {**FAMILIES[self.family].sizes[self.size], **self.edits.get("size", {})}

    @property
    def model_inputs(self) -> tuple[TensorSpec, ...]:
        """What the model, or this part of it, gets: what the data holds, or noise, or both."""
        if self.part:
            return FAMILIES[self.family].parts[self.part].inputs(self.inputs, self.size_arguments)
        return self.inputs if self.architecture else FAMILIES[self.family].model_inputs(self.size, self.inputs)

    @property
    def limits(self) -> Mapping[str, int]:
        """The longest that open dimensions of the inputs may be, by name; what is not there has no limit."""
        if self.architecture:
            return dict(self.architecture.get("limits", {}))
        return FAMILIES[self.family].limits_of(self.size)

    def build(self) -> nn.Module:
        """The untrained module, without what was pruned."""
        module = FAMILIES[self.family].make(self.size, self.inputs, len(self.classes), task=self.task)
        if self.target_scale is not None:
            from edgekit.training.rescaled import Rescaled

            module = Rescaled(module, *self.target_scale)
        return apply_edits(module, self.edits)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> ModelCard:
        """Read what `dataclasses.asdict` and JSON made of a card."""
        inputs = tuple(TensorSpec(**{**s, "shape": tuple(s["shape"])}) for s in value["inputs"])
        scale = value.get("target_scale")
        typed = {
            "classes": tuple(value["classes"]),
            "inputs": inputs,
            "target_scale": tuple(scale) if scale else None,
            "outputs": tuple(value.get("outputs", ())),
        }
        return cls(**{**value, **typed})


@dataclass(frozen=True)
class TrainedModel:
    """A module in evaluation mode, with its card; it can be evaluated like an ONNX session."""

    module: nn.Module
    card: ModelCard

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What goes in."""
        return self.card.model_inputs

    def take(self, part: str) -> TrainedModel:
        """A part of it, such as the decoder of an autoencoder.

        Raises:
            ModelError: if the family has no such part.
        """
        family = FAMILIES.get(self.card.family)
        parts = family.parts if family else {}
        if family is None or part not in parts:
            has = unknown("part", part, parts) if parts else f"it has no parts, got {part!r}; leave it out"
            raise ModelError(f"model of family {self.card.family!r}: {has}")
        chosen = parts[part]
        before = TASKS[self.card.task].outputs if chosen.behind_task else ()
        card = replace(self.card, part=part, outputs=(*before, *chosen.output_names(self.card.size_arguments)))
        return TrainedModel(chosen.pick(self.module), card)

    def run(self, feeds: Feeds) -> list[Array]:
        """The outputs for one batch."""
        import torch

        with torch.inference_mode():
            out = self.module(*(torch.from_numpy(np.ascontiguousarray(feeds[s.name])) for s in self.inputs))
        outputs = out if isinstance(out, (tuple, list)) else (out,)
        return [o.numpy() for o in outputs]


def require_training() -> None:
    """Refuse with the line that installs it where the train extra is missing."""
    from importlib.util import find_spec

    missing = [name for name in ("torch", "lightning", "safetensors") if find_spec(name) is None]
    if missing:
        raise MissingPackageError(f"this needs {', '.join(missing)}; install it: pip install 'edgekit[train]'")


def save_checkpoint(model: TrainedModel, directory: Path, extra: dict[str, Any]) -> None:
    """Write weights, then config.json; a directory with a config.json is complete."""
    from safetensors.torch import save_file

    weights = _apart({k: v.detach().cpu().contiguous() for k, v in model.module.state_dict().items()})
    with replacing(directory / WEIGHTS) as temporary:
        save_file(weights, temporary)
    facts = {"edgekit": __version__, "card": asdict(model.card), "sha256": sha256_of(directory / WEIGHTS)}
    write_json(directory / CONFIG, {**facts, **extra})


def _apart(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of which none shares another's memory, as tied ones do; the file's format knows no such thing."""
    seen: set[int] = set()
    found = {}
    for name, weight in weights.items():
        place = weight.untyped_storage().data_ptr()
        found[name] = weight.clone() if place in seen else weight
        seen.add(place)
    return found


def load_checkpoint(directory: Path, module: nn.Module | None = None) -> TrainedModel:
    """Build the module that a checkpoint directory holds.

    Args:
        directory: That `edgekit train` wrote.
        module: Takes the weights; built from the card where it is not given.

    Raises:
        ModelError: if a file is missing, cut short, or does not fit the family.
    """
    require_training()
    card = ModelCard.from_dict(read_config(directory)["card"])
    if module is None and card.family not in FAMILIES:
        raise ModelError(
            f"{directory / CONFIG}: this edgekit has no family {card.family!r}; it has {', '.join(FAMILIES)}"
        )
    module = module if module is not None else card.build()
    _load_weights(module, directory / WEIGHTS)
    return TrainedModel(module.eval(), card)


def read_config(directory: Path) -> dict[str, Any]:
    """The config.json of a checkpoint directory."""
    path = directory / CONFIG
    if not path.is_file():
        raise ModelError(
            f"{directory} is no checkpoint of edgekit: it has no {CONFIG}; give a directory that `edgekit train` wrote"
        )
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        ModelCard.from_dict(config["card"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is damaged ({error}); train again or copy it again") from error
    return config


def _load_weights(module: nn.Module, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is missing or damaged ({error}); train again or copy it again") from error
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(f"{path} does not fit its {CONFIG}: {brief(error)}") from error
