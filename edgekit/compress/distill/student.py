"""The student: a model of any family and size, some blocks of the base, or what earlier steps left of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgekit.compress.distill.config import DistillConfig
from edgekit.compress.distill.spots import blocks_of
from edgekit.data import DataSet, for_model
from edgekit.errors import CompressError, unknown
from edgekit.families import FAMILIES
from edgekit.training.checkpoint import ModelCard, TrainedModel
from edgekit.training.edits import keep_children, with_size, without_children
from edgekit.training.fit import card_for


@dataclass(frozen=True)
class Student:
    """What is to learn.

    Attributes:
        card: Of the model.
        start: A ready model to start from; None for random weights.
        data: As the student takes it.
    """

    card: ModelCard
    start: TrainedModel | None
    data: DataSet


def student_of(config: DistillConfig, model: TrainedModel, data: DataSet) -> Student:
    """What a step asks for.

    Args:
        config: Of the step.
        model: As earlier steps left it; the base where there are none.
        data: As that model takes it.

    Raises:
        CompressError: if there is no such family, size or block, or the family cannot do the task.
    """
    if config.layers is not None:
        start = with_blocks(model, config.layers)
        return Student(start.card, start, data)
    if config.family or config.size:
        return new_student(config.family or model.card.family, config.size or "small", data)
    return Student(model.card, model, data)


def new_student(family: str, size: str, data: DataSet) -> Student:
    """An untrained model of a family and size for some data.

    Raises:
        CompressError: if there is no such family or size, or it cannot do the data's task.
    """
    if family not in FAMILIES:
        hint = "give `family` and `size`, or `layers` to keep" if family.startswith(("hf:", "builder:")) else ""
        raise CompressError("; ".join(filter(None, [unknown("family of the student", family, FAMILIES), hint])))
    known = FAMILIES[family]
    if size not in known.sizes:
        raise CompressError(known.no_size(size))
    if data.task not in known.tasks:
        raise CompressError(
            f"family {family!r} does {', '.join(known.tasks)}, and this is {data.task}; choose another student"
        )
    card = card_for(family, size, _without_noise(data))
    return Student(card, None, for_model(_without_noise(data), card.model_inputs))


def _without_noise(data: DataSet) -> DataSet:
    """The data as it was before noise was added for an autoencoder; a generator's pictures stay labels."""
    if not data.latents or data.task == "generation":
        return data
    splits = {
        name: replace(split, arrays={k: v for k, v in split.arrays.items() if k not in data.latents})
        for name, split in data.splits.items()
    }
    return replace(data, splits=splits, latents=())


def with_blocks(model: TrainedModel, kept: Sequence[int]) -> TrainedModel:
    """A copy of a transformer with some of its blocks, and all that is around them.

    Args:
        model: Any transformer.
        kept: Its blocks that stay, from 0, in ascending order.

    Raises:
        CompressError: if it has no blocks, or none of these numbers.
    """
    blocks = blocks_of(model.module)
    if blocks is None:
        raise CompressError(
            f"layers: {model.card.family} has no blocks with attention to choose from; name the student's `family` and "
            "`size` instead"
        )
    if kept[-1] >= len(blocks):
        raise CompressError(f"layers: {model.card.family} has blocks 0..{len(blocks) - 1}, got {kept[-1]}")
    module = copy.deepcopy(model.module)
    inside = {child for children in blocks.children for child in children}
    count = len(list(module.get_submodule(blocks.container).children()))
    chosen = {child for block in kept for child in blocks.children[block]}
    children = [child for child in range(count) if child in chosen or child not in inside]
    keep_children(module, blocks.container, children)
    edits = without_children(model.card.edits, blocks.container, children)
    known = FAMILIES.get(model.card.family)
    if known and "depth" in known.sizes[model.card.size]:
        edits = with_size(edits, depth=len(kept))
    return TrainedModel(module.eval(), replace(model.card, edits=edits))
