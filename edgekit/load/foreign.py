"""Models whose architecture is known from elsewhere: a family of ours, or code that the user named."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import progress
from edgekit.data import DataSet
from edgekit.errors import ModelError, brief, unknown
from edgekit.families import FAMILIES
from edgekit.load.builder import Builder, users_code
from edgekit.load.mapping import WeightMapping
from edgekit.load.match import Taken, load_into
from edgekit.load.tokenizer import fits_vocabulary
from edgekit.load.weights import read_weights
from edgekit.specs import TensorSpec
from edgekit.tasks import TASKS
from edgekit.training.checkpoint import ModelCard, TrainedModel, require_training
from edgekit.training.start import replace_head

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Description:
    """What a module does not tell of itself.

    Attributes:
        inputs: What the data holds; the batch first.
        classes: Names of the outputs; () where nobody said.
        task: Name of the task, or "".
        data: Name of the data that it was trained on, or "".
        preprocessing: As metadata holds it.
    """

    inputs: tuple[TensorSpec, ...] = ()
    classes: tuple[str, ...] = ()
    task: str = ""
    data: str = ""
    preprocessing: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WeightFile:
    """Where weights lie and what they are called there.

    Attributes:
        path: A .safetensors or torch file.
        entry: Name of the mapping in it, where it holds several.
        mapping: Its names -> ours.
    """

    path: Path
    entry: str = ""
    mapping: WeightMapping = field(default_factory=WeightMapping)

    def into(self, module: nn.Module, what: str) -> Taken:
        """Load them into a module.

        Raises:
            ModelError: if the file cannot be read, or does not fit.
        """
        taken = load_into(module, read_weights(self.path, self.entry), self.mapping, str(self.path), what)
        for names, said in ((taken.left, "not taken"), (taken.initial, "keep their initial values")):
            if names:
                progress.note(f"{self.path}: {len(names)} names {said}: {_few(names)}")
        return taken


def load_family(family: str, size: str, weights: WeightFile, described: Description) -> TrainedModel:
    """A model of one of our families with weights from elsewhere.

    Raises:
        ModelError: if the family, the inputs or the weights do not fit.
    """
    require_training()
    if family not in FAMILIES:
        raise ModelError(unknown("family", family, FAMILIES))
    task = described.task or FAMILIES[family].tasks[0]
    if not described.inputs:
        raise ModelError(f"family {family!r} needs its inputs: --input image=1x3x224x224, or --data NAME")
    if task == "classification" and not described.classes:
        raise ModelError(f"family {family!r} needs the number of its classes: --classes 10, or --data NAME")
    card = _card(replace(described, task=task), family=family, size=size)
    module = _built(card)
    weights.into(module, f"{family}/{size}")
    return _checked(TrainedModel(module.eval(), card))


def load_built(builder: Builder, weights: WeightFile | None, described: Description) -> TrainedModel:
    """A model that the user's code builds, with the weights that it comes with or those of a file.

    Raises:
        ModelError: if the builder or the weights fail, or the module does not take the inputs.
    """
    require_training()
    if not described.inputs:
        raise ModelError(f"builder {builder.reference} needs its inputs: --input image=1x3x224x224, the batch first")
    module = builder.build()
    if weights:
        weights.into(module, builder.reference)
    task = described.task or ("classification" if described.classes else "")
    if task and task not in TASKS:
        raise ModelError(unknown("task", task, TASKS))
    card = replace(_card(replace(described, task=task), family=f"builder:{builder.name}", size=""))
    card = replace(card, architecture={"builder": builder.name, "arguments": dict(builder.arguments)})
    with users_code(builder.directory):
        return _checked(TrainedModel(module.eval(), card))


def adapted(model: TrainedModel, data: DataSet, *, trains: bool) -> TrainedModel:
    """A loaded model for a data set: its card says so, and a model that is to be trained gets the data's classes.

    Args:
        model: Loaded; its module may change.
        data: That it is used on.
        trains: Whether it is trained on.

    Raises:
        ModelError: if the data has more classes than the model gives.
        TrainingError: if a model that is to be trained has no last linear layer to replace.
    """
    refuse_other_tokeniser(model.inputs, model.card.family, data)
    card = replace(model.card, data=data.name, task=data.task)
    if data.preprocessing:
        card = replace(card, preprocessing=data.preprocessing.as_dict())
    if data.task != "classification":
        return TrainedModel(model.module, card)
    outputs, wanted = _count_outputs(model), len(data.classes)
    if card.architecture.get("untrained_head"):
        if not trains:
            raise ModelError(
                f"{card.family} has no trained layer for classes: its weights are those of the bare model; add `train` "
                "to train one"
            )
        kept = {k: v for k, v in card.architecture.items() if k != "untrained_head"}
        card = replace(card, architecture=kept)
    if outputs != wanted and trains:
        module = copy.deepcopy(model.module)
        name = replace_head(module, outputs, wanted)
        progress.note(f"{card.family} has {outputs} classes and {data.name} has {wanted}: {name} starts anew")
        if card.architecture:  # a family of ours is built for any number of classes
            head = {"replaces": outputs, "outputs": wanted}
            card = replace(card, architecture={**card.architecture, "head": head})
        return TrainedModel(module.eval(), replace(card, classes=data.classes))
    if outputs < wanted:
        raise ModelError(
            f"{card.family} gives {outputs} classes, and {data.name} has labels of {wanted}; give other data, or "
            "`train` to train a new last layer"
        )
    named = card.classes if len(card.classes) == outputs else data.classes
    numbered = tuple(map(str, range(outputs)))
    return TrainedModel(model.module, replace(card, classes=named if len(named) == outputs else numbered))


def refuse_other_tokeniser(inputs: Sequence[TensorSpec], who: str, data: DataSet) -> None:
    """Refuse ids that another model's tokeniser made.

    Args:
        inputs: Of the model.
        who: What messages call it.
        data: Made by a tokeniser, where it is text.

    Raises:
        ModelError: if its vocabulary is not the model's.
    """
    wanted = {s.name: s.vocabulary for s in inputs}
    for spec in data.inputs:
        there = wanted.get(spec.name)
        if spec.vocabulary and there and not fits_vocabulary(spec.vocabulary, there):
            raise ModelError(
                f"the tokeniser of {data.name} has {spec.vocabulary:,} tokens, and {who} has {there:,}: "
                "it is of another model; give the model's own: `data: {name: …, tokenizer: DIRECTORY/tokenizer.json}`"
            )


def _count_outputs(model: TrainedModel) -> int:
    import numpy as np

    zeros = {s.name: np.zeros([d if isinstance(d, int) else 2 for d in s.shape], s.dtype) for s in model.inputs}
    return int(model.run(zeros)[0].shape[-1])


def _card(described: Description, family: str, size: str) -> ModelCard:
    return ModelCard(
        family=family,
        size=size,
        task=described.task,
        data=described.data,
        classes=described.classes,
        inputs=described.inputs,
        preprocessing=dict(described.preprocessing),
    )


def _built(card: ModelCard) -> nn.Module:
    try:
        return card.build()
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ModelError(
            f"family {card.family!r} cannot be built for {', '.join(map(str, card.inputs))}: {brief(error)}"
        ) from error


def _checked(model: TrainedModel) -> TrainedModel:
    """The model, after it took zeros of its inputs and gave tensors; names its outputs where they have names."""
    import torch

    zeros = [
        torch.zeros([d if isinstance(d, int) else 2 for d in s.shape], dtype=getattr(torch, s.dtype))
        for s in model.inputs
    ]
    try:
        with torch.inference_mode():
            out = model.module(*zeros)
    except Exception as error:  # anybody's code, hence any error
        raise ModelError(
            f"{model.card.family} does not take {', '.join(map(str, model.inputs))}: "
            f"{type(error).__name__}: {brief(error)}"
        ) from error
    names: tuple[str, ...] = ()
    if isinstance(out, Mapping):
        names, out = tuple(map(str, out)), tuple(out.values())
        card = replace(model.card, architecture={**model.card.architecture, "values": True})
        model = TrainedModel(values_of(model.module), card)
    outputs = out if isinstance(out, (tuple, list)) else (out,)
    if not outputs or not all(isinstance(o, torch.Tensor) for o in outputs):
        raise ModelError(
            f"{model.card.family} gave {', '.join(type(o).__name__ for o in outputs) or 'nothing'}; its forward must "
            "return a tensor, a tuple or a mapping of tensors"
        )
    _check_classes(model.card, tuple(outputs[0].shape))
    return replace(model, card=replace(model.card, outputs=names or _names(model.card.task, len(outputs))))


def _names(task: str, count: int) -> tuple[str, ...]:
    """Names of outputs: the task's, where it has so many; else numbered."""
    if task in TASKS and len(TASKS[task].outputs) == count:
        return TASKS[task].outputs
    return ("output",) if count == 1 else tuple(f"output_{i}" for i in range(count))


def _check_classes(card: ModelCard, shape: tuple[int, ...]) -> None:
    if card.task == "classification" and card.classes and shape[1:] != (len(card.classes),):
        raise ModelError(
            f"{card.family} gives {'x'.join(map(str, shape[1:])) or 'one number'} a sample, not {len(card.classes)} "
            "classes; give the right --classes, or none"
        )


def values_of(module: nn.Module) -> nn.Module:
    """A module that answers with a mapping, as one that answers with a tuple."""
    from torch import Tensor, nn

    class Values(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
            return tuple(self.module(*inputs).values())

    return Values()


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
