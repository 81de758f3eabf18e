from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from edgekit.data import load_split
from edgekit.data.digits import PREPROCESSING
from edgekit.errors import TrainingError
from edgekit.evaluate import evaluate
from edgekit.tasks import find_metric
from edgekit.training.attacks import PixelRange, attack, attacked
from edgekit.training.checkpoint import load_checkpoint
from edgekit.training.config import AdversarialConfig, AttackConfig
from edgekit.training.request import train_family

STD, MEAN = PREPROCESSING.std[0], PREPROCESSING.mean[0]
FGSM, PGD = AttackConfig(attack="fgsm", epsilon=0.1), AttackConfig(attack="pgd", epsilon=0.1, steps=10)


@pytest.fixture
def pixels() -> PixelRange:
    return PixelRange.of(PREPROCESSING.as_dict())


def top1(model: Any, split: Any) -> float:
    return evaluate(model, split, find_metric("top1")).value


def test_step_sizes() -> None:
    assert (FGSM.rounds, FGSM.step) == (1, 1.25 * 0.1)
    assert (PGD.rounds, PGD.step) == (10, pytest.approx(0.025))
    assert AttackConfig(step_size=0.5).step == 0.5


def test_the_range_is_that_of_stored_pixels(pixels: PixelRange) -> None:
    whole = PREPROCESSING(np.stack([np.zeros((8, 8)), np.full((8, 8), 16.0)]))
    assert pixels.low.item() == pytest.approx(whole[0].min())
    assert pixels.high.item() == pytest.approx(whole[1].max())


def test_against_a_linear_model_the_attack_is_known_in_closed_form(pixels: PixelRange) -> None:
    """The gradient has the same sign everywhere, so every pixel goes to the end of what is allowed."""
    torch.manual_seed(0)
    weight = torch.randn(1, 1, 4, 4)
    images = (torch.rand(5, 1, 4, 4) - MEAN) / STD
    for config in (AttackConfig(attack="fgsm", epsilon=0.05, step_size=0.1), AttackConfig(epsilon=0.05, steps=20)):
        found = attack(nn.Identity(), images, lambda x: (x * weight).sum(), config, pixels)
        ends = images + 0.05 / STD * weight.sign()
        assert torch.allclose(found, torch.minimum(torch.maximum(ends, pixels.low), pixels.high), atol=1e-5)


@pytest.mark.parametrize("config", [FGSM, PGD], ids=["fgsm", "pgd"])
def test_pictures_stay_within_epsilon_and_within_the_range(
    pico_cnn: Path, config: AttackConfig, pixels: PixelRange
) -> None:
    split = load_split("digits", "test").take(100)
    found = attacked(load_checkpoint(pico_cnn), split, config)
    before, after = split.arrays["image"], found.arrays["image"]
    assert after.shape == before.shape
    assert after.dtype == np.float32
    assert np.abs(after - before).max() <= 0.1 / STD * (1 + 1e-5)
    assert after.min() >= pixels.low.item()
    assert after.max() <= pixels.high.item()
    assert found.labels is not None
    assert split.labels is not None
    assert found.labels.tolist() == split.labels.tolist()


def test_attacks_work_and_several_steps_more_than_one(pico_cnn: Path) -> None:
    model, split = load_checkpoint(pico_cnn), load_split("digits", "test")
    clean = top1(model, split)
    one, several = (top1(model, attacked(model, split, config)) for config in (FGSM, PGD))
    assert clean > 0.9
    assert several < one < clean - 0.15
    noise = np.random.default_rng(0).uniform(-0.1 / STD, 0.1 / STD, split.arrays["image"].shape)
    noisy = replace(split, arrays={"image": split.arrays["image"] + noise.astype(np.float32)})
    assert top1(model, noisy) > clean - 0.05  # it is the direction that hurts, not the size


def test_the_seed_decides_and_nothing_else_is_touched(pico_cnn: Path) -> None:
    model, split = load_checkpoint(pico_cnn), load_split("digits", "test").take(40)
    model.module.train()
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    first, again = (attacked(model, split, PGD).arrays["image"] for _ in range(2))
    other = attacked(model, split, PGD, seed=1).arrays["image"]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[k], v) for k, v in model.module.state_dict().items())
    assert all(m.training for m in model.module.modules())
    assert all(p.grad is None for p in model.module.parameters())


def test_training_against_attacks_makes_robust(pico_cnn: Path, tmp_path: Path) -> None:
    options = {"epochs": 6, "batch_size": 64, "learning_rate": 1e-2}
    against = AdversarialConfig(attack="fgsm", epsilon=0.1, share=0.5)
    train_family("cnn", "pico", "digits", tmp_path, {**options, "adversarial": against})
    split = load_split("digits", "test")
    plain, robust = load_checkpoint(pico_cnn), load_checkpoint(tmp_path)
    assert top1(robust, split) > 0.85
    assert top1(robust, attacked(robust, split, PGD)) > top1(plain, attacked(plain, split, PGD)) + 0.15


def test_pictures_of_unknown_range(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((60, 1, 4, 4), np.float32), labels=np.arange(60) % 3)
    with pytest.raises(TrainingError, match="an attack needs to know what the pixels 0 and 1 are to the model"):
        train_family("cnn", "pico", str(tmp_path / "d.npz"), tmp_path / "out", {"adversarial": AdversarialConfig()})


def test_a_model_of_another_task(pico_cnn: Path) -> None:
    model = load_checkpoint(pico_cnn)
    other = replace(model, card=replace(model.card, task="reconstruction"))
    with pytest.raises(TrainingError, match="needs a classifier and labels, got a model for reconstruction"):
        attacked(other, load_split("digits", "test"), PGD)


def test_the_loss_is_raised(pico_cnn: Path, pixels: PixelRange) -> None:
    module, split = load_checkpoint(pico_cnn).module, load_split("digits", "test").take(64)
    assert split.labels is not None
    images, labels = torch.from_numpy(split.arrays["image"]), torch.from_numpy(split.labels)

    def loss(outputs: Tensor) -> Tensor:
        return cross_entropy(outputs, labels)

    with torch.no_grad():
        before = float(loss(module(images)))
        after = float(loss(module(attack(module, images, loss, PGD, pixels))))
    assert after > 3 * before
