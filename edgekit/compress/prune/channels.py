"""Structured pruning: whole channels go, so that every product behind them is smaller in the exported file."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from edgekit.compress.finetune import fine_tune, keep
from edgekit.compress.prune.choice import Allocation, Ranking, reach
from edgekit.compress.prune.cost import count_macs, count_parameters, sample_of
from edgekit.compress.prune.dependencies import Found, find_groups
from edgekit.compress.prune.normalisation import estimate_statistics
from edgekit.compress.prune.outcome import AFTER_PATTERN, AFTER_QUANTIZE, link, outcome
from edgekit.compress.prune.recurrent import recurrent_network
from edgekit.compress.prune.saliency import Importance, saliency
from edgekit.compress.prune.slots import Removal, remove
from edgekit.compress.technique import StepConfig, StepResult, TorchStep, technique
from edgekit.errors import CompressError
from edgekit.steps import StepStore
from edgekit.training.checkpoint import CONFIG, WEIGHTS, TrainedModel
from edgekit.training.config import FineTuneConfig
from edgekit.training.edits import with_shapes, with_size
from edgekit.training.start import start_key

if TYPE_CHECKING:
    from torch import Tensor, nn


class ChannelsConfig(StepConfig):
    """How to prune channels. Exactly one of `ratio`, `macs`, `parameters` and `latency` is the goal."""

    prune: Literal["channels"] = "channels"
    ratio: Annotated[float | None, Field(gt=0, lt=1, description="share of the channels that go")] = None
    macs: Annotated[float | None, Field(gt=1, description="how many times fewer MACs")] = None
    parameters: Annotated[float | None, Field(gt=1, description="how many times fewer parameters")] = None
    latency: Annotated[
        float | None, Field(gt=1, description="how many times as fast the exported file has to be, measured")
    ] = None
    importance: Annotated[
        Importance, Field(description="l1, l2, bn-scale: of weights; taylor, hessian: of gradients; random")
    ] = "l2"
    allocation: Annotated[
        Allocation, Field(description="global: channels of all layers compete; layer: each loses its share")
    ] = "global"
    round_to: Annotated[int, Field(gt=0, description="channels left in a layer are a multiple of it")] = 8
    steps: Annotated[int, Field(gt=0, description="rounds of pruning, each with fine-tuning after it")] = 1
    samples: Annotated[int, Field(gt=0, description="calibration samples for taylor and hessian")] = 256
    seed: Annotated[int, Field(ge=0, lt=2**32, description="of random importance")] = 0
    finetune: Annotated[
        FineTuneConfig | None,
        Field(description="training after it; null for none: only normalisation is estimated anew"),
    ] = FineTuneConfig()

    @model_validator(mode="after")
    def _one_goal(self) -> Self:
        given = [name for name in _GOALS if getattr(self, name) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise ValueError(f"needs exactly one of {', '.join(_GOALS)} as its goal, got {got}; such as ratio: 0.5")
        return self

    @property
    def goal(self) -> tuple[str, float]:
        """What is to be how many times less."""
        if self.ratio is not None:
            return "channels", 1 / (1 - self.ratio)
        return next((name, float(value)) for name in _GOALS if (value := getattr(self, name)) is not None)


_GOALS = ("ratio", "macs", "parameters", "latency")
_COUNTS, _MEASUREMENTS = 12, 6  # halvings of what is removed, until a goal is met closely


@technique(
    ChannelsConfig,
    stage="torch",
    summary="remove whole channels, hidden units and columns; smaller and faster everywhere",
    paper="Fang et al. 2023 (DepGraph), arXiv:2301.12900; Molchanov et al. 2019, arXiv:1906.10771",
    not_after={**AFTER_QUANTIZE, **AFTER_PATTERN},
)
def prune_channels(config: ChannelsConfig, step: TorchStep) -> StepResult:
    """Remove the least important channels in rounds, with fine-tuning after each.

    Without fine-tuning the statistics of batch normalisation are estimated anew on calibration data.

    Raises:
        CompressError: if the model cannot be followed, nothing of it can go, or the goal cannot be reached.
    """
    work = _Work(config, step)
    model, links = step.model, []
    kept: dict[str, str] = {}
    for number in range(1, config.steps + 1):
        pruned, kept = work.prune(model, number)
        which = f" ({number} of {config.steps})" if config.steps > 1 else ""
        out = step.out if number == config.steps else step.work / f"round-{number}" / "checkpoint"
        links.append(link(step, pruned, f"pruned{which}"))
        if config.finetune is None and estimate_statistics(pruned, step.load_data().splits["calibration"]):
            links.append(link(step, pruned, f"normalised anew{which}"))
        model = fine_tune(step, pruned, config.finetune, out=out)
        links += [link(step, model, f"fine-tuned{which}")] if config.finetune else []
    gained = {"speedup": step.speedup(model)} if config.latency is not None else {}
    return outcome(step, model, links, f"channels of least {config.importance} importance", kept, **gained)


def _without(model: TrainedModel, removals: Sequence[Removal]) -> TrainedModel:
    """A copy of a model with channels taken out, and its card that says so."""
    module = copy.deepcopy(model.module)
    remove(module, removals)
    edits = with_shapes(model.card.edits, model.module, module)
    recurrent = recurrent_network(module)
    if recurrent is not None:  # a stream's state is as wide
        edits = with_size(edits, width=int(recurrent[1].layers[0].width))
    return TrainedModel(module.eval(), replace(model.card, edits=edits))


def _total(found: Found) -> int:
    return sum(group.count for group in found.groups)


def _why(found: Found) -> str:
    """Why the layers of a model have to stay, the first three of them."""
    said = [f"{name}: {reason}" for name, reason in list(found.kept.items())[:3]]
    return "; ".join(said) or "it has no layer whose channels could go"


@dataclass(frozen=True)
class _Work:
    """One application of the technique."""

    config: ChannelsConfig
    step: TorchStep

    @cached_property
    def sample(self) -> list[Tensor]:
        return sample_of(self.step.model, self.step.load_data().splits["calibration"], 2)

    def prune(self, model: TrainedModel, number: int) -> tuple[TrainedModel, dict[str, str]]:
        """The model after a round of pruning, which is kept, so that an interrupted run goes on with the same one.

        Returns:
            The model, and why which layers stayed as they were.
        """
        place = self.step.work / f"round-{number}" / "pruned"
        dump = self.config.model_dump(mode="json", exclude_defaults=True, exclude={"finetune"})
        inputs = [dump, number, start_key(None, model), self.step.fingerprint]

        def make() -> dict[str, Any]:
            pruned, found = self._pruned(model, number)
            keep(self.step, pruned, place)
            return {"kept": found.kept}

        files = [place / WEIGHTS, place / CONFIG]
        told = StepStore(self.step.work).run(f"pruned-{number}", inputs, files, make).result
        return self.step.open(place), told["kept"]

    def _pruned(self, model: TrainedModel, number: int) -> tuple[TrainedModel, Found]:
        found = find_groups(model.module, self.sample)
        if not found.groups:
            raise CompressError(f"nothing can be pruned: {_why(found)}")
        removals = self._choose(model, found, number)
        if not removals:
            raise CompressError(
                f"nothing is pruned: no layer can spare a multiple of {self.config.round_to} channels; set round_to "
                "lower, or ask for more"
            )
        return _without(model, removals), found

    def _choose(self, model: TrainedModel, found: Found, number: int) -> list[Removal]:
        config = self.config
        split = self.step.load_data().splits["calibration"].take(config.samples)
        scores = saliency(model, found.groups, config.importance, split, config.seed)
        ranking = Ranking(found.groups, scores, config.allocation, config.round_to)
        if config.ratio is not None:
            ranking.refuse_emptying(config.ratio)
            if config.allocation == "layer":
                return ranking.least(1 - (1 - config.ratio) ** (1 / config.steps))
        what, goal = config.goal
        share = goal ** (number / config.steps)
        tries = _MEASUREMENTS if what == "latency" else _COUNTS
        return reach(ranking, share, lambda removals: self._factor(model, found, removals), what, tries)

    def _factor(self, model: TrainedModel, found: Found, removals: Sequence[Removal]) -> float:
        """How many times less a removal makes it, against the model that the step started from."""
        what, _ = self.config.goal
        if what == "channels":
            left = _total(found) - sum(len(channels) for _, channels in removals)
            return self.channels / left
        pruned = _without(model, removals)
        if what == "latency":
            return self.step.speedup(pruned)
        return self._count(self.step.model.module, what) / self._count(pruned.module, what)

    @cached_property
    def channels(self) -> int:
        """That could go before the first round."""
        return _total(find_groups(self.step.model.module, self.sample))

    def _count(self, module: nn.Module, what: str) -> int:
        return count_macs(module, self.sample) if what == "macs" else count_parameters(module)
