from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.data import DataSet, find_source, for_model
from edgekit.data.digits import fingerprint
from edgekit.errors import TrainingError
from edgekit.tasks import Metric
from edgekit.training.checkpoint import TrainedModel, load_checkpoint, read_config
from edgekit.training.config import TrainConfig
from edgekit.training.fit import card_for, fit
from edgekit.training.gan import AdversarialModule, discriminator_of, share_of_rate, tell_apart

# Stands for a judge: how far the mean pictures are apart.
APART = Metric("apart", False, "", lambda o, y, f: np.abs(o[0].mean(0) - y.mean(0)).mean() * np.ones(len(o[0])))


@pytest.fixture(scope="module")
def digits() -> DataSet:
    data = find_source("digits").load(None, "generation")
    return for_model(data, card_for("gan", "pico", data).model_inputs)


@pytest.fixture(scope="module")
def trained(digits: DataSet) -> Callable[..., TrainedModel]:
    def train(out: Path, **options: Any) -> TrainedModel:
        config = TrainConfig(
            **{"epochs": 2, "batch_size": 128, "learning_rate": 1e-3, "precision": "32-true", **options}
        )
        card = card_for("gan", "pico", find_source("digits").load(None, "generation"))
        return fit(card, lambda: digits, config, out, fingerprint=fingerprint(), metric=APART)

    return train


def weights(model: TrainedModel) -> torch.Tensor:
    return torch.cat([v.flatten().float() for v in model.module.state_dict().values()])


def test_it_comes_nearer_to_the_data(trained: Callable[..., TrainedModel], tmp_path: Path) -> None:
    trained(tmp_path, epochs=12, ema=0.9)
    config = read_config(tmp_path)
    first, last = (config["history"][i]["validation"] for i in (0, -1))
    assert last < 0.8 * first
    assert config["validation"]["value"] == min(row["validation"] for row in config["history"])


def test_only_the_generator_is_saved(trained: Callable[..., TrainedModel], tmp_path: Path) -> None:
    model = trained(tmp_path)
    saved = load_checkpoint(tmp_path)
    torch.testing.assert_close(weights(saved), weights(model))
    assert [s.name for s in saved.inputs] == ["z"]
    last = torch.load(next((tmp_path / "work").glob("*/last.ckpt")), weights_only=True)
    assert {name.split(".")[0] for name in last["state_dict"]} == {"module", "discriminator"}


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(
    trained: Callable[..., TrainedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(tmp_path / "whole", epochs=3, ema=0.9)
    original, seen = AdversarialModule.training_step, []

    def stopped(self: AdversarialModule, batch: Any, index: int) -> Any:
        seen.append(self.current_epoch)
        if self.current_epoch == 1 and index == 2 and len(seen) == 10:  # 7 steps an epoch
            raise KeyboardInterrupt
        return original(self, batch, index)

    monkeypatch.setattr(AdversarialModule, "training_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "part", epochs=3, ema=0.9)
    before = len(seen)
    resumed = trained(tmp_path / "part", epochs=3, ema=0.9)
    assert seen[before] == 1  # the first epoch was not done again
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=1e-6)


@pytest.mark.parametrize("who", ["module", "discriminator"])
def test_a_loss_that_is_not_finite(
    who: str, trained: Callable[..., TrainedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = AdversarialModule.training_step

    def poisoned(self: AdversarialModule, batch: Any, index: int) -> Any:
        if index == 3:
            with torch.no_grad():
                next(getattr(self, who).parameters()).fill_(float("nan"))
        return original(self, batch, index)

    monkeypatch.setattr(AdversarialModule, "training_step", poisoned)
    with pytest.raises(TrainingError) as error:
        trained(tmp_path)
    assert str(error.value).startswith("training diverged: the discriminator's loss is nan at step 3 (epoch 1); ")
    assert "lower `learning_rate` (now 0.001)" in str(error.value)


def test_gradients_are_clipped_by_hand(trained: Callable[..., TrainedModel], tmp_path: Path) -> None:
    free, clipped = trained(tmp_path / "a", epochs=1), trained(tmp_path / "b", epochs=1, clip_gradients=1e-6)
    assert not torch.equal(weights(free), weights(clipped))


def test_hinge_loss() -> None:
    real, made = torch.tensor([[2.0], [0.0]]), torch.tensor([[-2.0], [0.5]])
    assert float(tell_apart(real, made)) == pytest.approx((0 + 1) / 2 + (0 + 1.5) / 2)


def test_the_rate_is_steady_and_then_falls() -> None:
    assert [share_of_rate(x) for x in (0, 0.4, 0.7, 1)] == [1.0, 1.0, 0.5, 0.02]


def test_a_family_without_an_adversary(pico_mlp: Path) -> None:
    with pytest.raises(TrainingError, match="family 'mlp' has no discriminator to train against"):
        discriminator_of(load_checkpoint(pico_mlp))
