from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekit.data.digits import PREPROCESSING, load
from edgekit.errors import TrainingError
from edgekit.training.augment import (
    Mixture,
    augment,
    background_of,
    check_augmentation,
    cutmix,
    erase,
    flip,
    mixup,
    shift,
)
from edgekit.training.config import AugmentConfig
from edgekit.training.request import train_family

N = 256


@pytest.fixture
def images() -> Tensor:
    """Different pictures (n, 2, 9, 7), with no symmetry and no value twice in a picture."""
    torch.manual_seed(0)
    return torch.rand(N, 2, 9, 7)


def test_flip_mirrors_half_of_the_pictures(images: Tensor) -> None:
    found = flip(images)
    mirrored = torch.tensor([torch.equal(f, i.flip(2)) for f, i in zip(found, images, strict=True)])
    same = torch.tensor([torch.equal(f, i) for f, i in zip(found, images, strict=True)])
    assert bool((mirrored ^ same).all())
    assert 0.35 * N < int(mirrored.sum()) < 0.65 * N


def test_shift_moves_each_picture_as_a_whole(images: Tensor) -> None:
    background = torch.tensor([-1.0, -2.0]).reshape(2, 1, 1)
    found, moves = shift(images, 2, background), set()
    padded = torch.empty(N, 2, 13, 11)
    padded[:] = background
    padded[:, :, 2:11, 2:9] = images
    for index in range(N):
        here = [
            (dy, dx)
            for dy in range(5)
            for dx in range(5)
            if torch.equal(found[index], padded[index, :, dy : dy + 9, dx : dx + 7])
        ]
        assert len(here) == 1
        moves.add(here[0])
    assert len(moves) == 25


def test_erase_fills_boxes_of_the_share_that_was_asked_for(images: Tensor) -> None:
    found = erase(images, 0.5)
    changed = (found != images).any(1)
    touched = changed.flatten(1).any(1)
    assert 0.35 * N < int(touched.sum()) < 0.65 * N
    for mask in changed[touched]:
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        box = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert bool(box.all())
        assert int(box.sum()) == int(mask.sum())
    shares = changed[touched].float().mean((1, 2))
    assert 0.1 < float(shares.mean()) < 0.25
    assert float(shares.max()) < 0.45
    noise = found[changed[:, None].expand_as(found)]
    assert abs(float(noise.mean())) < 0.1
    assert abs(float(noise.std()) - 1) < 0.1


def test_mixup_is_the_papers_formula(images: Tensor) -> None:
    found, order, share = mixup(images, 0.4)
    assert sorted(order.tolist()) == list(range(N))
    assert 0 < share < 1
    assert torch.allclose(found, share * images + (1 - share) * images[order])
    shares = np.array([mixup(images[:2], 0.4)[2] for _ in range(300)])
    assert abs(shares.mean() - 0.5) < 0.08
    assert abs(shares.var() - 1 / (4 * (2 * 0.4 + 1))) < 0.03  # of Beta(alpha, alpha)


def test_cutmix_takes_a_box_of_another_picture_and_its_share(images: Tensor) -> None:
    for _ in range(10):
        found, order, share = cutmix(images, 1.0)
        other = images[order] != images
        taken = ((found == images[order]) & other).any(1)
        assert torch.equal(found[~taken[:, None].expand_as(found)], images[~taken[:, None].expand_as(found)])
        moved = order != torch.arange(N)
        assert torch.allclose(taken[moved].float().mean((1, 2)), torch.tensor(1 - share), atol=1e-6)


def test_the_loss_of_a_mixture_is_that_of_both_labels() -> None:
    mixed = Mixture(torch.tensor([1.0]), torch.tensor([5.0]), 0.75)
    assert float(mixed.loss(lambda labels: 2 * labels)) == 2 * (0.75 * 1 + 0.25 * 5)
    assert float(Mixture(torch.tensor([3.0])).loss(lambda labels: 2 * labels)) == 6


@pytest.mark.parametrize("options", [{"mixup": 0.5}, {"cutmix": 1.0}, {"mixup": 0.5, "cutmix": 1.0}])
def test_labels_follow_the_pictures(images: Tensor, options: dict[str, Any]) -> None:
    labels = torch.arange(N)
    found, mixed = augment(images, labels, AugmentConfig(**options))
    assert found.shape == images.shape
    assert mixed.labels is labels
    assert mixed.others is not None
    assert sorted(mixed.others.tolist()) == labels.tolist()
    assert not torch.equal(found, images)


def test_the_seed_decides(images: Tensor) -> None:
    config = AugmentConfig(flip=True, shift=2, erase=0.5, mixup=0.3, cutmix=0.3)
    answers = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        answers.append(augment(images, torch.arange(N), config)[0])
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])


def test_nothing_is_changed_unless_asked_for(images: Tensor) -> None:
    found, mixed = augment(images, torch.arange(N), AugmentConfig())
    assert found is images
    assert mixed.others is None


def test_the_background_is_black_as_the_model_sees_it() -> None:
    assert background_of(load()).tolist() == [[[pytest.approx(-PREPROCESSING.mean[0] / PREPROCESSING.std[0])]]]
    assert background_of(replace(load(), preprocessing=None)).tolist() == [[[0.0]]]


def test_data_that_is_no_picture_is_not_augmented(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((60, 6), np.float32), labels=np.arange(60) % 3)
    with pytest.raises(TrainingError) as error:
        train_family("mlp", "pico", str(tmp_path / "d.npz"), tmp_path / "o", {"augment": AugmentConfig(flip=True)})
    assert str(error.value) == (
        f"augment: flip needs images (batch, channels, height, width), but '{tmp_path / 'd.npz'}' has "
        "x: float32 batchx6; leave `augment` out"
    )


def test_a_shift_that_leaves_nothing_of_the_picture() -> None:
    with pytest.raises(TrainingError, match="shift must be below the picture's 8 pixels, got 8"):
        check_augmentation(AugmentConfig(shift=8), load())


def test_what_has_to_be_given_back_is_not_erased() -> None:
    data = replace(load(), task="reconstruction")
    check_augmentation(AugmentConfig(flip=True, shift=1), data)
    with pytest.raises(TrainingError, match="erase, mixup would change what reconstruction has to give back"):
        check_augmentation(AugmentConfig(erase=0.1, mixup=0.1), data)
