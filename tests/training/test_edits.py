from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from edgekit.compress.prune.slots import resize
from edgekit.errors import ModelError
from edgekit.load import open_checkpoint
from edgekit.specs import TensorSpec
from edgekit.training.checkpoint import ModelCard, TrainedModel, save_checkpoint
from edgekit.training.edits import apply_edits, keep_children, with_shapes, with_size, without_children

IMAGE = (TensorSpec("image", "float32", ("batch", 1, 8, 8)),)
CLASSES = tuple("0123456789")


class Everything(nn.Module):
    """A layer of each kind that may change its shape."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.table = nn.Embedding(11, 6)
        self.tied = nn.Linear(6, 11, bias=False)
        self.tied.weight = self.table.weight
        self.layer_norm = nn.LayerNorm(6)
        self.lstm = nn.LSTM(6, 5, batch_first=True)
        self.heads = 4


def smaller(module: Everything) -> Everything:
    cut: Callable[..., nn.Parameter] = lambda value, *keep: nn.Parameter(value.detach()[keep].clone())  # noqa: E731
    made = copy.deepcopy(module)
    made.conv.weight, made.conv.bias = cut(made.conv.weight, slice(4)), cut(made.conv.bias, slice(4))
    made.norm.weight, made.norm.bias = cut(made.norm.weight, slice(4)), cut(made.norm.bias, slice(4))
    made.norm.running_mean, made.norm.running_var = torch.ones(4), torch.ones(4)
    made.table.weight = made.tied.weight = cut(made.table.weight, slice(None), slice(3))
    made.layer_norm.weight, made.layer_norm.bias = nn.Parameter(torch.ones(3)), nn.Parameter(torch.zeros(3))
    made.lstm = nn.LSTM(3, 2, batch_first=True)
    made.heads = 2
    for layer in (made.conv, made.norm, made.table, made.tied, made.layer_norm):
        resize(layer)
    return made


def test_every_kind_of_layer_is_brought_to_its_recorded_shape() -> None:
    torch.manual_seed(0)
    fresh = Everything()
    pruned = smaller(fresh)
    edits = json.loads(json.dumps(with_shapes({}, fresh, pruned)))
    again = apply_edits(Everything(), edits)
    again.load_state_dict(pruned.state_dict())
    assert (again.conv.out_channels, again.norm.num_features, again.heads) == (4, 4, 2)
    assert again.layer_norm.normalized_shape == (3,)
    assert again.table.weight is again.tied.weight
    assert (again.lstm.hidden_size, again.lstm.input_size) == (2, 3)
    x = torch.randn(2, 7, 3)
    assert torch.equal(again.lstm(x)[0], pruned.lstm(x)[0])
    assert torch.equal(again.norm(again.conv(torch.ones(1, 3, 8, 8))), pruned.norm(pruned.conv(torch.ones(1, 3, 8, 8))))


def test_nothing_is_recorded_of_what_did_not_change() -> None:
    assert with_shapes({}, Everything(), Everything()) == {}
    assert with_shapes({}, Everything(), smaller(Everything()))["layers"].keys() == {
        "",
        "conv",
        "norm",
        "table",
        "tied",
        "layer_norm",
        "lstm",
    }


def test_layers_removed_twice_and_shapes_between_them() -> None:
    def stack() -> nn.Module:
        return nn.Sequential(nn.ModuleList(nn.Linear(4, 4) for _ in range(5)))

    module = stack()
    for index, layer in enumerate(module[0]):
        nn.init.constant_(layer.weight, index)
    keep_children(module, "0", [0, 2, 3, 4])
    edits = without_children({}, "0", [0, 2, 3, 4])
    before = copy.deepcopy(module)
    module[0][2].weight = nn.Parameter(torch.full((2, 4), 3.0))  # it was the fourth
    module[0][2].out_features = 2
    edits = with_shapes(edits, before, module)
    keep_children(module, "0", [1, 2])
    edits = without_children(edits, "0", [1, 2])
    assert edits["kept"] == {"0": [2, 3]}
    assert edits["layers"] == {"0.1": {"numbers": {"out_features": 2}, "tensors": {"weight": [2, 4]}}}
    again = apply_edits(stack(), json.loads(json.dumps(edits)))
    again.load_state_dict(module.state_dict())
    assert [float(layer.weight[0, 0].detach()) for layer in again[0]] == [2.0, 3.0]


def test_a_pruned_checkpoint_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    card = ModelCard("cnn", "pico", "classification", "digits", CLASSES, IMAGE, {})
    whole = card.build().eval()
    pruned = copy.deepcopy(whole)
    first, norm, second = pruned[0], pruned[1], pruned[3]
    first.weight = nn.Parameter(first.weight.detach()[:5])
    for name in ("weight", "bias"):
        setattr(norm, name, nn.Parameter(getattr(norm, name).detach()[:5]))
    norm.running_mean, norm.running_var = norm.running_mean[:5], norm.running_var[:5]
    second.weight = nn.Parameter(second.weight.detach()[:, :5])
    for layer in (first, norm, second):
        resize(layer)
    card = replace(card, edits=with_shapes({}, whole, pruned))
    save_checkpoint(TrainedModel(pruned, card), tmp_path / "c", {})
    loaded = open_checkpoint(tmp_path / "c")
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(loaded.module(x), pruned(x))
    assert loaded.module[0].out_channels == loaded.module[1].num_features == loaded.module[3].in_channels == 5
    assert loaded.card.edits == card.edits


def test_arguments_of_the_size_that_no_longer_hold() -> None:
    card = ModelCard("gpt", "pico", "language-modelling", "d", (), (TensorSpec("ids", "int64", ("b", "l"), 9),), {})
    assert card.size_arguments["depth"] == 2
    shallow = replace(card, edits=with_size({}, depth=1))
    assert shallow.size_arguments == {**card.size_arguments, "depth": 1}
    assert len(replace(shallow, part="cache").model_inputs) == 3  # ids, and keys and values of one block


def test_a_card_without_edits_trains_as_before() -> None:
    from edgekit.training.config import TrainConfig
    from edgekit.training.fit import training_key

    card = ModelCard("cnn", "pico", "classification", "digits", CLASSES, IMAGE, {})
    pruned = replace(card, edits={"size": {"depth": 1}})
    assert training_key(card, TrainConfig(), "d") != training_key(pruned, TrainConfig(), "d")
    described = {name: value for name, value in vars(card).items() if value}
    assert "edits" not in described


@pytest.mark.parametrize(
    "edits",
    [
        {"layers": {"nowhere": {"numbers": {"a": 1}}}},
        {"layers": {"conv": {"numbers": {"stripes": 1}}}},
        {"layers": {"conv": {"tensors": {"fur": [1]}}}},
        {"kept": {"conv": [0]}},
        {"kept": {"": [9]}},
    ],
)
def test_edits_of_another_module_are_refused(edits: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="the card's edits are of another module"):
        apply_edits(Everything(), edits)
