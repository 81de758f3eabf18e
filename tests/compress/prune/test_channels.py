from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from edgekit.compress import TorchStep
from edgekit.compress.prune.channels import ChannelsConfig, prune_channels
from edgekit.compress.prune.choice import Ranking
from edgekit.compress.prune.cost import count_macs, count_parameters, sample_of
from edgekit.compress.prune.dependencies import find_groups
from edgekit.compress.prune.saliency import saliency
from edgekit.compress.prune.slots import Group, Slot, remove
from edgekit.errors import CompressError, ExportError
from edgekit.training.checkpoint import TrainedModel

Build = Callable[..., TrainedModel]
Prepare = Callable[..., TorchStep]
FAMILIES = [
    ("mlp", "pico"),
    ("cnn", "pico"),
    ("cnn", "pico-depthwise"),
    ("resnet", "pico"),
    ("vgg", "pico"),
    ("vae", "pico"),
    ("vae", "pico-dense"),
    ("gan", "pico"),
    ("lstm", "pico"),
    ("gru", "pico-bidirectional"),
    ("rnn", "pico"),
    ("gpt", "pico"),
    ("transformer", "pico"),
]
DATA = {"lstm": "series", "gru": "series", "rnn": "series", "gpt": "text", "transformer": "text"}


def silence(module: nn.Module, group: Group, channels: list[int]) -> None:
    """Make channels all zero, as if they were not there."""
    with torch.no_grad():
        for slot in group.slots:
            value = getattr(module.get_submodule(slot.layer), slot.tensor)
            if "running" not in slot.tensor:
                value.index_fill_(slot.axis, torch.from_numpy(slot.places[channels].reshape(-1)), 0.0)


def sampled(model: TrainedModel, step: TorchStep) -> list[Any]:
    return sample_of(model, step.load_data().splits["calibration"], 2)


@pytest.mark.parametrize(("family", "size"), FAMILIES)
def test_a_pruned_model_answers_as_one_with_those_channels_silenced(family: str, size: str, step_of: Prepare) -> None:
    step = step_of(family, size, DATA.get(family, "digits"))
    model = step.model
    sample = sampled(model, step)
    found = find_groups(model.module, sample)
    assert found.groups
    for group in found.groups:
        chosen = [0, group.count - 1]
        pruned, silenced = (step.open(step.out.parents[1] / "base").module for _ in range(2))
        remove(pruned, [(group, np.array(chosen))])
        silence(silenced, group, chosen)
        with torch.inference_mode():
            ours, theirs = (m(*sample) for m in (pruned, silenced))
        for one, other in zip(*((o if isinstance(o, tuple) else (o,)) for o in (ours, theirs)), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        assert count_parameters(pruned) < count_parameters(model.module)


def test_without_fine_tuning_normalisation_is_estimated_anew(step_of: Prepare) -> None:
    step = step_of("resnet")
    result = prune_channels(ChannelsConfig(ratio=0.5, round_to=1, finetune=None), step)
    assert [told["name"] for told in result.details["links"]] == ["pruned", "normalised anew"]
    module, split = step.open(step.out).module, step.load_data().splits["calibration"]
    first = module.get_submodule("0")
    with torch.inference_mode():
        out = first(torch.from_numpy(split.arrays["image"]))
    found = module.get_submodule("1").running_mean
    torch.testing.assert_close(found, out.mean((0, 2, 3)), rtol=0.05, atol=0.02)
    assert not any(m.training or getattr(m, "momentum", 0.1) is None for m in module.modules())


def test_groups_of_a_residual_network(step_of: Prepare) -> None:
    step = step_of("resnet")
    found = find_groups(step.model.module, sampled(step.model, step))
    assert {g.name: g.count for g in found.groups} == {
        "0": 8,
        "3.body.0": 8,
        "4.shortcut.0": 16,
        "4.body.0": 16,
        "5.shortcut.0": 32,
        "5.body.0": 32,
    }
    assert found.kept == {"9": "without one of them the outputs have other shapes"}


def test_attention_is_left_to_the_pruning_of_heads(step_of: Prepare) -> None:
    step = step_of("vit")
    found = find_groups(step.model.module, sampled(step.model, step))
    assert {g.count for g in found.groups} == {32, 128}
    assert not any("query" in g.name or "value" in g.name for g in found.groups)


@pytest.mark.parametrize("importance", ["l1", "l2", "bn-scale", "taylor", "hessian", "random"])
def test_every_importance_leaves_a_smaller_model_that_loads(importance: str, step_of: Prepare) -> None:
    step = step_of("cnn")
    config = ChannelsConfig(ratio=0.5, round_to=2, importance=importance, samples=16, finetune=None)
    result = prune_channels(config, step)
    assert result.changed
    assert result.details["parameters"]["ratio"] > 1.5
    assert result.details["macs"]["before"] == 96928
    loaded = step.open(step.out)
    assert count_parameters(loaded.module) == result.details["parameters"]["after"]
    assert all(after % 2 == 0 for _, after in result.details["layers"].values())
    assert [link["name"] for link in result.details["links"]] == ["pruned", "normalised anew"]


def test_importance_finds_the_channels_that_do_nothing(step_of: Prepare) -> None:
    step = step_of("cnn")
    sample = sampled(step.model, step)
    group = next(g for g in find_groups(step.model.module, sample).groups if g.name == "3")
    silence(step.model.module, group, [1, 4, 6])
    split = step.load_data().splits["calibration"].take(16)
    for how in ("l1", "l2", "bn-scale", "taylor", "hessian"):
        (scores,) = saliency(step.model, [group], how, split)
        assert scores[[1, 4, 6]].max() <= np.sort(scores)[2], how
        assert scores.max() > 0, how


@pytest.mark.parametrize(("goal", "value"), [("macs", 2.5), ("parameters", 3.0)])
def test_a_goal_is_reached_and_not_overshot(goal: str, value: float, step_of: Prepare) -> None:
    step = step_of("resnet")
    result = prune_channels(ChannelsConfig(**{goal: value}, round_to=1, finetune=None), step)
    assert value <= result.details[goal]["ratio"] < 1.25 * value
    loaded = step.open(step.out)
    assert count_macs(loaded.module, sampled(loaded, step)) == result.details["macs"]["after"]


def test_a_measured_speed_up_is_a_goal(step_of: Prepare) -> None:
    step = step_of("cnn")
    asked: list[int] = []

    def speedup(model: TrainedModel) -> float:
        asked.append(count_parameters(model.module))
        return count_parameters(step.model.module) / asked[-1]

    faked = type(step)(**{**vars(step), "speedup": speedup})
    result = prune_channels(ChannelsConfig(latency=1.5, round_to=1, finetune=None), faked)
    assert result.details["parameters"]["ratio"] >= 1.5
    assert result.details["speedup"] == result.details["parameters"]["ratio"]
    assert len(asked) <= 8  # each is an export and a measurement


def test_rounds_of_pruning_and_fine_tuning(step_of: Prepare) -> None:
    step = step_of("cnn", batch_size=64)
    finetune = {"epochs": 1, "learning_rate": 1e-2}
    config = ChannelsConfig.model_validate({"macs": 2.0, "round_to": 1, "steps": 2, "finetune": finetune})
    result = prune_channels(config, step)
    names = [link["name"] for link in result.details["links"]]
    assert names == ["pruned (1 of 2)", "fine-tuned (1 of 2)", "pruned (2 of 2)", "fine-tuned (2 of 2)"]
    assert result.details["macs"]["ratio"] >= 2
    assert result.details["links"][-1]["validation"] == step.validate(step.open(step.out))


def test_what_is_chosen() -> None:
    def group(name: str, count: int) -> Group:
        return Group(name, count, (Slot(name, "weight", 0, np.arange(count)[:, None]),))

    groups = [group("a", 16), group("b", 16)]
    scores = [np.arange(16.0), np.arange(16.0) + 100]
    each = Ranking(groups, scores, "layer", 8).least(0.4)
    assert [(g.name, c.tolist()) for g, c in each] == [("a", list(range(8))), ("b", list(range(8)))]
    together = Ranking(groups, scores, "global", 1).least(0.4)
    assert [(g.name, c.tolist()) for g, c in together] == [("a", list(range(13)))]
    assert Ranking(groups, scores, "global", 8).least(1.0)[1][1].tolist() == list(range(8))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "needs exactly one of ratio, macs, parameters, latency as its goal, got none"),
        ({"ratio": 0.5, "macs": 2.0}, "got ratio and macs"),
        ({"ratio": 0.0}, "greater than 0"),
        ({"ratio": 1.0}, "less than 1"),
        ({"ratio": -0.5}, "greater than 0"),
        ({"macs": 1.0}, "greater than 1"),
        ({"ratio": 0.5, "importance": "vibes"}, "'l1', 'l2'"),
    ],
)
def test_goals_that_make_no_sense(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ChannelsConfig(**given)


def test_a_ratio_that_would_empty_a_layer_names_it(step_of: Prepare) -> None:
    with pytest.raises(CompressError, match=r"ratio 0.95 would empty layer '\d', which has 16 channels; at most 0.938"):
        prune_channels(ChannelsConfig(ratio=0.95, finetune=None), step_of("cnn"))


def test_a_goal_out_of_reach(step_of: Prepare) -> None:
    with pytest.raises(CompressError, match=r"50 times fewer macs cannot be reached: .* it is \d"):
        prune_channels(ChannelsConfig(macs=50.0, finetune=None), step_of("cnn"))


class Flipping(nn.Module):
    """What autograd cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.last(self.first(x)).detach().numpy())


def test_a_model_that_cannot_be_followed() -> None:
    with pytest.raises(CompressError, match="cannot follow what Flipping does behind layer 'last': "):
        find_groups(Flipping(), [torch.zeros(2, 4)])


@pytest.mark.parametrize("size", ["pico", "pico-tied"])
def test_a_recurrent_language_model_loses_units_and_columns(size: str, step_of: Prepare) -> None:
    step = step_of("lstm", size, "text")
    sample = sampled(step.model, step)
    found = find_groups(step.model.module, sample)
    assert [g.name for g in found.groups][-1] == ("layers.0" if size == "pico-tied" else "entry")
    for group in found.groups:
        pruned, silenced = (step.open(step.out.parents[1] / "base").module for _ in range(2))
        remove(pruned, [(group, np.array([1, 3]))])
        silence(silenced, group, [1, 3])
        with torch.inference_mode():
            torch.testing.assert_close(pruned(*sample), silenced(*sample), rtol=1e-4, atol=1e-5)


def test_a_pruned_recurrent_model_streams_with_a_narrower_state(step_of: Prepare) -> None:
    step = step_of("lstm", "pico", "series")
    prune_channels(ChannelsConfig(ratio=0.5, allocation="layer", round_to=1, finetune=None), step)
    model = step.open(step.out)
    width = model.card.size_arguments["width"]
    assert width == step.model.card.size_arguments["width"] // 2
    streaming = model.take("streaming")
    assert {s.shape[2] for s in streaming.inputs[1:]} == {width}
    prune_channels(ChannelsConfig(macs=1.5, round_to=1, finetune=None), step)
    model = step.open(step.out)
    if len({layer.width for layer in model.module.layers}) > 1:
        with pytest.raises(
            ExportError, match=r"its layers were pruned to .* units, and a stream's state has one width"
        ):
            model.take("streaming")
