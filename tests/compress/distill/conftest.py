"""Digits, a teacher of them, and a way to distil without a recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.compress.distill.config import DistillConfig
from edgekit.compress.distill.run import Distilling
from edgekit.compress.distill.student import new_student
from edgekit.compress.distill.teacher import Teacher, TorchTeacher
from edgekit.compress.technique import TECHNIQUES
from edgekit.data import DataSet
from edgekit.data.digits import fingerprint, load
from edgekit.training.checkpoint import TrainedModel, load_checkpoint
from edgekit.training.config import TrainConfig


@pytest.fixture(scope="session")
def digits() -> DataSet:
    return load()


@pytest.fixture(scope="session")
def teacher(pico_cnn: Path) -> TorchTeacher:
    return TorchTeacher(load_checkpoint(pico_cnn), "cnn")


def config_of(method: str, **options: Any) -> DistillConfig:
    found = TECHNIQUES[f"distill: {method}"].config.model_validate({"distill": method, **options})
    assert isinstance(found, DistillConfig)
    return found


@pytest.fixture
def distilled(digits: DataSet, teacher: Teacher) -> Callable[..., TrainedModel]:
    """Distil a pico mlp (or another) on digits into a directory."""

    def run(out: Path, method: str = "logits", student: str = "mlp", **options: Any) -> TrainedModel:
        taught = options.pop("teacher", teacher)
        data = options.pop("data", digits)
        train = {"epochs": 2, "batch_size": 64, "learning_rate": 1e-2, **options.pop("train", {})}
        config = config_of(method, train=train, **options)
        known = fingerprint()
        return Distilling(config, new_student(student, "pico", data), taught, TrainConfig(), out, out, known).run()

    return run


def same_weights(a: TrainedModel, b: TrainedModel) -> bool:
    left, right = a.module.state_dict(), b.module.state_dict()
    return list(left) == list(right) and all(torch.equal(left[k], right[k]) for k in left)


def poisoned(model: TrainedModel) -> TrainedModel:
    """The same model with one weight that is not a number."""
    first = next(iter(model.module.parameters()))
    with torch.no_grad():
        first.view(-1)[0] = float(np.nan)
    return model
