"""Pruning of whole layers: residual blocks that change little of what goes through them."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from edgekit.compress.finetune import fine_tune
from edgekit.compress.prune.blocks import Stack, find_stacks, influence
from edgekit.compress.prune.outcome import AFTER_QUANTIZE, link, outcome
from edgekit.compress.technique import StepConfig, StepResult, TorchStep, technique
from edgekit.errors import CompressError
from edgekit.families import FAMILIES
from edgekit.specs import Array
from edgekit.training.checkpoint import TrainedModel
from edgekit.training.config import FineTuneConfig
from edgekit.training.edits import keep_children, with_size, without_children


class LayersConfig(StepConfig):
    """How to prune layers. `ratio`, `left` or `keep` says which."""

    prune: Literal["layers"] = "layers"
    ratio: Annotated[float | None, Field(gt=0, lt=1, description="share of the blocks that goes")] = None
    left: Annotated[int | None, Field(gt=0, description="how many blocks stay")] = None
    keep: Annotated[list[int] | None, Field(min_length=1, description="the blocks that stay, from 0 on")] = None
    importance: Annotated[
        Literal["influence", "random"],
        Field(description="influence: how much a block turns what goes through it, on calibration data; random"),
    ] = "influence"
    samples: Annotated[int, Field(gt=0, description="calibration samples for influence")] = 256
    seed: Annotated[int, Field(ge=0, lt=2**32, description="of random importance")] = 0
    finetune: Annotated[FineTuneConfig | None, Field(description="training after it; null for none")] = FineTuneConfig()

    @model_validator(mode="after")
    def _one_goal(self) -> Self:
        given = [name for name in ("ratio", "left", "keep") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"needs exactly one of ratio, left, keep, got {' and '.join(given) or 'none'}; such as left: 3"
            )
        return self


@technique(
    LayersConfig,
    stage="torch",
    summary="remove whole residual blocks of transformers and residual networks",
    paper="Men et al. 2024 (ShortGPT), arXiv:2403.03853",
    not_after=AFTER_QUANTIZE,
)
def prune_layers(config: LayersConfig, step: TorchStep) -> StepResult:
    """Leave out the blocks that change least.

    Raises:
        CompressError: if the model has no blocks that could be left out, or what is asked for leaves none or all.
    """
    stacks = find_stacks(step.model.module)
    total = sum(len(stack.blocks) for stack in stacks)
    if not stacks:
        raise CompressError(
            f"{step.model.card.family} has no residual blocks that could be left out; use `prune: channels` or another "
            "model"
        )
    gone = _choose(config, step, stacks)
    pruned = _without(step.model, stacks, gone)
    links = [link(step, pruned, "pruned")]
    tuned = fine_tune(step, pruned, config.finetune)
    links += [link(step, tuned, "fine-tuned")] if config.finetune else []
    named = {stack.path: each for stack, each in zip(stacks, gone, strict=True)}
    return outcome(step, tuned, links, f"{sum(map(len, gone))} of {total} blocks", removed_blocks=named)


def _choose(config: LayersConfig, step: TorchStep, stacks: list[Stack]) -> list[list[int]]:
    """The blocks of each stack that go."""
    places = [(stack, block) for stack, s in enumerate(stacks) for block in range(len(s.blocks))]
    total = len(places)
    if config.keep is not None:
        wrong = [index for index in config.keep if not 0 <= index < total]
        if wrong or len(set(config.keep)) == total:
            raise CompressError(
                f"keep: got {config.keep}, and the model has blocks 0 to {total - 1}; name some of them, not all"
            )
        chosen = [place for number, place in enumerate(places) if number not in config.keep]
    else:
        chosen = [places[i] for i in np.argsort(_scores(config, step, stacks), kind="stable")[: _count(config, total)]]
    return [sorted(block for at, block in chosen if at == stack) for stack in range(len(stacks))]


def _count(config: LayersConfig, total: int) -> int:
    """How many blocks go."""
    if total < 2:
        raise CompressError(
            f"the model has {total} block that could be left out, and one has to stay; use `prune: channels`"
        )
    count = total - config.left if config.left is not None else round((config.ratio or 0) * total)
    if not 0 < count < total:
        asked = f"left: {config.left}" if config.left is not None else f"ratio {config.ratio:g}"
        raise CompressError(
            f"{asked} takes {max(0, count)} of {total} blocks; at least one has to go and one to stay: give left "
            f"between 1 and {total - 1}"
        )
    return count


def _scores(config: LayersConfig, step: TorchStep, stacks: list[Stack]) -> Array:
    """Importance of each block of all stacks."""
    if config.importance == "random":
        return np.random.default_rng(config.seed).random(sum(len(s.blocks) for s in stacks))
    split = step.load_data().splits["calibration"].take(config.samples)
    return np.concatenate([influence(step.model, stack, split) for stack in stacks])


def _without(model: TrainedModel, stacks: list[Stack], gone: list[list[int]]) -> TrainedModel:
    module, edits = copy.deepcopy(model.module), dict(model.card.edits)
    for stack, blocks in zip(stacks, gone, strict=True):
        container: Any = module.get_submodule(stack.path)
        kept = stack.kept(len(container), blocks)
        keep_children(module, stack.path, kept)
        edits = without_children(edits, stack.path, kept)
    card = replace(model.card, edits=edits)
    return TrainedModel(module.eval(), replace(card, edits=_sized(card, stacks, gone)))


def _sized(card: Any, stacks: list[Stack], gone: list[list[int]]) -> dict[str, Any]:
    """What the parts of a family's model must know: how many blocks there are, and the heads of each."""
    family = FAMILIES.get(card.family)
    if family is None or "depth" not in family.sizes[card.size] or len(stacks) != 1:
        return dict(card.edits)
    heads, left = card.size_arguments.get("heads"), len(stacks[0].blocks) - len(gone[0])
    uneven = {"heads": [h for i, h in enumerate(heads) if i not in gone[0]]} if isinstance(heads, list) else {}
    return with_size(card.edits, depth=left, **uneven)
