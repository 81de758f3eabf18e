"""Pruning of attention heads: queries, keys and values of whole heads go, and what reads them."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from edgekit.compress.finetune import fine_tune
from edgekit.compress.prune.attention import Attention, count_heads, find_attentions
from edgekit.compress.prune.outcome import AFTER_PATTERN, AFTER_QUANTIZE, link, outcome
from edgekit.compress.prune.saliency import signed_saliency
from edgekit.compress.prune.slots import Removal, remove
from edgekit.compress.technique import StepConfig, StepResult, TorchStep, technique
from edgekit.errors import CompressError
from edgekit.families import FAMILIES
from edgekit.specs import Array
from edgekit.training.checkpoint import ModelCard, TrainedModel
from edgekit.training.config import FineTuneConfig
from edgekit.training.edits import with_shapes, with_size

if TYPE_CHECKING:
    from torch import nn


class HeadsConfig(StepConfig):
    """How to prune attention heads."""

    prune: Literal["heads"] = "heads"
    ratio: Annotated[float, Field(gt=0, lt=1, description="share of all heads that goes; each layer keeps one")] = 0.5
    importance: Annotated[
        Literal["taylor", "l2", "random"],
        Field(description="taylor: what the loss changes without a head; l2: norm of its weights; random"),
    ] = "taylor"
    samples: Annotated[int, Field(gt=0, description="calibration samples for taylor")] = 256
    seed: Annotated[int, Field(ge=0, lt=2**32, description="of random importance")] = 0
    finetune: Annotated[FineTuneConfig | None, Field(description="training after it; null for none")] = FineTuneConfig()


@technique(
    HeadsConfig,
    stage="torch",
    summary="remove whole attention heads of transformers",
    paper="Michel et al. 2019, arXiv:1905.10650; Voita et al. 2019, arXiv:1905.09418",
    not_after={**AFTER_QUANTIZE, **AFTER_PATTERN},
)
def prune_heads(config: HeadsConfig, step: TorchStep) -> StepResult:
    """Remove the least important heads of all layers together.

    Raises:
        CompressError: if the model has no heads, or the ratio takes none or more than all but one of each layer.
    """
    model = step.model
    attentions = find_attentions(model.module)
    if not attentions:
        raise CompressError(
            f"{model.card.family} has no attention heads that edgekit knows; use `prune: channels` or another model"
        )
    scores = _scores(config, step, attentions)
    gone = choose_heads(attentions, scores, config.ratio)
    pruned = _without(model, attentions, gone)
    links = [link(step, pruned, "pruned")]
    tuned = fine_tune(step, pruned, config.finetune)
    links += [link(step, tuned, "fine-tuned")] if config.finetune else []
    left = {a.name: a.heads - len(channels) for a, channels in zip(attentions, gone, strict=True)}
    return outcome(step, tuned, links, f"{sum(map(len, gone))} of {sum(a.heads for a in attentions)} heads", heads=left)


def _scores(config: HeadsConfig, step: TorchStep, attentions: list[Attention]) -> list[Array]:
    groups = [a.group() for a in attentions]
    if config.importance == "random":
        rng = np.random.default_rng(config.seed)
        return [rng.random(a.heads) for a in attentions]
    if config.importance == "l2":
        from edgekit.compress.prune.saliency import saliency

        return saliency(step.model, groups, "l2", step.load_data().splits["calibration"])
    outputs = [replace(group, slots=group.slots[-1:]) for group in groups]
    split = step.load_data().splits["calibration"].take(config.samples)
    return [_unit(scores) for scores in signed_saliency(step.model, outputs, split)]


def _unit(scores: Array) -> Array:
    """Scores of a layer over their norm, which makes those of layers comparable (Michel et al. 2019, section 4.1)."""
    return scores / max(float(np.linalg.norm(scores)), 1e-12)


def choose_heads(attentions: list[Attention], scores: list[Array], ratio: float) -> list[Array]:
    """The heads that go, of each attention: the least important ones, but never the best one of a layer.

    Raises:
        CompressError: if the ratio takes no head, or more than there are to take.
    """
    total = sum(a.heads for a in attentions)
    wanted = round(ratio * total)
    if not 0 < wanted <= total - len(attentions):
        raise CompressError(
            f"ratio {ratio:g} takes {wanted} of {total} heads, and each of {len(attentions)} layers keeps one; give a "
            f"ratio between {0.5 / total:.3g} and {(total - len(attentions)) / total:.3g}"
        )
    best = [int(np.argmax(s)) for s in scores]
    free = sorted((s[h], i, h) for i, s in enumerate(scores) for h in range(len(s)) if h != best[i])
    gone: list[list[int]] = [[] for _ in attentions]
    for _, index, head in free[:wanted]:
        gone[index].append(head)
    return [np.array(sorted(each), np.int64) for each in gone]


def _without(model: TrainedModel, attentions: list[Attention], gone: list[Array]) -> TrainedModel:
    module = copy.deepcopy(model.module)
    removals: list[Removal] = [(a.group(), heads) for a, heads in zip(attentions, gone, strict=True) if len(heads)]
    remove(module, removals)
    for attention in attentions:
        count_heads(module, attention)
    edits = with_shapes(model.card.edits, model.module, module)
    left = [a.heads - len(heads) for a, heads in zip(attentions, gone, strict=True)]
    return TrainedModel(module.eval(), replace(model.card, edits=_sized(model.card, edits, attentions, left)))


def _sized(card: ModelCard, edits: dict[str, Any], attentions: list[Attention], left: list[int]) -> dict[str, Any]:
    """What the parts of a family's model must know: the heads of each block, and the width of one."""
    family = FAMILIES.get(card.family)
    if family is None or "heads" not in family.sizes[card.size]:
        return edits
    return with_size(edits, heads=left, head_width=attentions[0].width)


def heads_of(module: nn.Module) -> int:
    """How many heads a module has, in all its layers."""
    return sum(a.heads for a in find_attentions(module))
