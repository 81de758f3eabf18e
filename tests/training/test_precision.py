from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgekit import machine
from edgekit.training import precision
from edgekit.training.precision import automatic_precision, forward_flops


@pytest.fixture
def large() -> nn.Module:
    return nn.Linear(2000, 1000)


def features(monkeypatch: pytest.MonkeyPatch, *, amx: bool) -> None:
    monkeypatch.setattr(machine, "cpu_features", lambda: {"AMX-BF16": amx})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_operations_are_those_of_a_sample() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 5 * 5, 10)).train()
    assert forward_flops(net, [torch.zeros(2, 3, 5, 5)]) == 2 * (5 * 5 * 8 * 3 * 9 + 8 * 5 * 5 * 10)
    assert net.training


@pytest.mark.parametrize(
    ("amx", "batch_size", "accelerator", "expected"),
    [
        (True, 128, "auto", "bf16-mixed"),
        (True, 128, "cpu", "bf16-mixed"),
        (True, 8, "cpu", "32-true"),
        (True, 128, "mps", "32-true"),
        (False, 128, "cpu", "32-true"),
    ],
)
def test_cpus(
    monkeypatch: pytest.MonkeyPatch, large: nn.Module, amx: bool, batch_size: int, accelerator: str, expected: str
) -> None:
    features(monkeypatch, amx=amx)
    assert automatic_precision(large, [torch.zeros(2, 2000)], batch_size, accelerator) == expected


@pytest.mark.parametrize(("bf16", "expected"), [(True, "bf16-mixed"), (False, "16-mixed")])
def test_gpus(monkeypatch: pytest.MonkeyPatch, large: nn.Module, bf16: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: bf16)
    assert automatic_precision(large, [torch.zeros(2, 2000)], 1, "auto") == expected


@pytest.mark.parametrize("wanted", ["auto", "bf16-mixed"])
def test_saved_weights_and_validation_are_float32(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wanted: str) -> None:
    from edgekit.data import load_split
    from edgekit.evaluate import evaluate
    from edgekit.tasks import find_metric
    from edgekit.training.checkpoint import load_checkpoint
    from edgekit.training.request import train_family

    features(monkeypatch, amx=True)
    monkeypatch.setattr(precision, "_WORTH_IT", 0)
    options: dict[str, Any] = {"epochs": 3, "batch_size": 64, "learning_rate": 1e-2, "precision": wanted}
    result = train_family("cnn", "pico", "digits", tmp_path, {**options, "accelerator": "cpu"})
    model = load_checkpoint(tmp_path)
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    value = evaluate(model, load_split("digits", "validation"), find_metric("top1")).value
    assert result["validation"]["value"] == pytest.approx(value, abs=1e-6)
    assert value > 0.7
