from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgekit import progress
from edgekit.data.digits import fingerprint, load
from edgekit.errors import ModelError, TrainingError
from edgekit.training.checkpoint import load_checkpoint, read_config
from edgekit.training.config import TrainConfig
from edgekit.training.fit import card_for, fit
from edgekit.training.request import train_family
from edgekit.training.start import freeze, frozen_modules, replace_head, start_key, starting_module

OPTIONS: dict[str, Any] = {"epochs": 2, "batch_size": 64, "learning_rate": 1e-3}
HEAD = ("15.weight", "15.bias")  # of the pico CNN


@pytest.fixture
def odd_or_even(tmp_path: Path) -> str:
    """The digits as pictures of two classes."""
    data = load()
    arrays = [(data.splits[s].arrays["image"], data.splits[s].labels) for s in ("train", "test")]
    labels = np.concatenate([np.asarray(y) for _, y in arrays]) % 2
    np.savez(tmp_path / "parity.npz", image=np.concatenate([x for x, _ in arrays]), labels=labels)
    return str(tmp_path / "parity.npz")


def state(place: Path) -> dict[str, Any]:
    return load_checkpoint(place).module.state_dict()


def test_training_goes_on_from_a_checkpoint(pico_cnn: Path, tmp_path: Path) -> None:
    result = train_family("cnn", "pico", "digits", tmp_path, {**OPTIONS, "epochs": 1, "init": str(pico_cnn)})
    assert result["history"][0]["validation"] > 0.9
    assert result["train"]["init"] == str(pico_cnn)


def test_another_task_gets_a_new_head_and_keeps_what_is_frozen(
    pico_cnn: Path, odd_or_even: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress.set_quiet(False)
    options = {**OPTIONS, "epochs": 6, "learning_rate": 1e-2, "init": str(pico_cnn), "freeze": ["[0-9].*", "1[0-4].*"]}
    result = train_family("cnn", "pico", odd_or_even, tmp_path / "out", options)
    assert f"init: {pico_cnn} has 10 classes and {odd_or_even} has 2: its last layer, 15, starts anew" in " ".join(
        capsys.readouterr().err.split()
    )
    before, after = state(pico_cnn), state(tmp_path / "out")
    changed = [k for k in before if before[k].shape != after[k].shape or not torch.equal(before[k], after[k])]
    assert changed == list(HEAD)  # the statistics of batch normalisation are as they were, too
    assert after[HEAD[0]].shape == (2, 16)
    assert result["validation"]["value"] > 0.8


def test_a_ready_model_can_be_trained(pico_cnn: Path, tmp_path: Path) -> None:
    start, data = load_checkpoint(pico_cnn), load()
    before = {k: v.clone() for k, v in start.module.state_dict().items()}
    card = card_for("cnn", "pico", data)
    model = fit(card, lambda: data, TrainConfig(**OPTIONS), tmp_path, fingerprint=fingerprint(), start=start)
    assert all(torch.equal(before[k], v) for k, v in start.module.state_dict().items())
    assert not torch.equal(before[HEAD[0]], model.module.state_dict()[HEAD[0]])
    assert read_config(tmp_path)["history"][0]["validation"] > 0.9


def test_other_weights_to_start_from_are_another_training(pico_cnn: Path, pico_mlp: Path, tmp_path: Path) -> None:
    assert start_key(None) == ""
    assert start_key(str(pico_cnn)) != start_key(str(pico_mlp))
    model = load_checkpoint(pico_cnn)
    first = start_key(None, model)
    with torch.no_grad():
        next(model.module.parameters()).add_(1e-3)
    assert start_key(None, model) != first


def test_a_path_that_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is no checkpoint of edgekit: it has no config\.json"):
        train_family("cnn", "pico", "digits", tmp_path / "out", {"init": str(tmp_path)})


def test_a_checkpoint_of_another_family(pico_mlp: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as error:
        train_family("cnn", "pico", "digits", tmp_path / "out", {"init": str(pico_mlp)})
    assert str(error.value) == (
        f"init: {pico_mlp} is a mlp/pico, but a cnn/pico is to be trained; ask for family 'mlp' and size 'pico'"
    )


def test_a_checkpoint_for_pictures_of_another_size(pico_mlp: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((60, 1, 4, 4), np.float32), labels=np.arange(60) % 10)
    with pytest.raises(TrainingError) as error:
        train_family("mlp", "pico", str(tmp_path / "d.npz"), tmp_path / "out", {"init": str(pico_mlp)})
    assert "does not fit" in str(error.value)
    assert "1.weight (32, 64) for (32, 16)" in str(error.value)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3))
        self.head = nn.ModuleDict({"one": nn.Linear(4, 7, bias=False)})


def test_parameters_are_frozen_by_name() -> None:
    net = Net()
    assert freeze(net, []) == []
    assert freeze(net, ["features.[01].*"]) == [
        "features.0.weight",
        "features.0.bias",
        "features.1.weight",
        "features.1.bias",
    ]
    assert [n for n, p in net.named_parameters() if p.requires_grad] == [
        "features.3.weight",
        "features.3.bias",
        "head.one.weight",
    ]
    assert frozen_modules(net) == [net.features[0], net.features[1]]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["featurs.*"], "freeze: 'featurs.*' matches no parameter; did you mean 'features.*'"),
        (["zzz"], "freeze: 'zzz' matches no parameter; names are such as features.*, features.0.*, features.1.*"),
        (["features.*", "head.*"], "freeze: features.*, head.* matches every parameter; leave some to train"),
    ],
)
def test_patterns_that_make_no_sense(patterns: list[str], message: str) -> None:
    with pytest.raises(TrainingError) as error:
        freeze(Net(), patterns)
    assert str(error.value).startswith(message)


def test_the_last_layer_with_so_many_outputs_is_replaced() -> None:
    net = Net()
    assert replace_head(net, 7, 3) == "head.one"
    assert net.head["one"].weight.shape == (3, 4)
    assert net.head["one"].bias is None
    with pytest.raises(TrainingError, match="no linear layer of the model has 7 outputs"):
        replace_head(net, 7, 3)


def test_the_start_is_copied(pico_cnn: Path) -> None:
    model = load_checkpoint(pico_cnn)
    module = starting_module(model.card, None, model)
    assert module is not model.module
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), model.module.parameters(), strict=True))


def test_what_fine_tuning_does_not_say_is_as_the_model_was_trained() -> None:
    from edgekit.training.config import FineTuneConfig

    trained = TrainConfig.model_validate(
        {"epochs": 12, "learning_rate": 5e-3, "batch_size": 32, "augment": {"flip": True}, "ema": 0.99, "init": "there"}
    )
    found = FineTuneConfig(epochs=2, weight_decay=0.5).after(trained)
    assert (found.epochs, found.learning_rate, found.warmup) == (2, 1e-3, 0.1)  # its own, by its own defaults
    assert (found.batch_size, found.augment.flip, found.ema) == (32, True, 0.99)  # as before
    assert (found.weight_decay, found.init) == (0.5, None)
    assert type(found) is TrainConfig
