from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.compress.prune.graph.nets import images, labelled, redundant
from tests.steady import timing_decides_nothing  # noqa: F401  -- an autouse fixture

Cli = Callable[..., Any]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(redundant(), path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "calibration.npz"
    np.savez(path, image=images(96).arrays["image"])
    return path


@pytest.fixture
def judged(tmp_path: Path, model: Path) -> Path:
    path = tmp_path / "labelled.npz"
    split = labelled(onnx.load(model), 100, seed=7)
    assert split.labels is not None
    np.savez(path, image=split.arrays["image"], labels=split.labels)
    return path


def test_the_table(cli: Cli, model: Path, data: Path, judged: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    answer = cli("prune", model, "--macs", "1.5", "--data", data, "--eval", judged, "--out", out)
    assert answer.code == 0, answer.err
    for part in ("multiply-accumulates", "parameters", "latency", "top1", "conv2", "gemm9 stays"):
        assert part in answer.out
    assert out.stat().st_size < model.stat().st_size


def test_a_floor_that_is_missed_is_exit_3(cli: Cli, model: Path, judged: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    answer = cli("prune", model, "--ratio", "0.6", "--eval", judged, "--max-drop", "0", "--out", out, "--json")
    assert answer.code == 3
    assert json.loads(answer.out)["floor_met"] is False
    assert answer.err.splitlines()[-1].endswith("out.onnx is a copy of the original")
    assert out.read_bytes() == model.read_bytes()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--ratio", "1.5"], "--ratio: input should be less than 1, got 1.5"),
        (["--ratio", "0"], "--ratio: input should be greater than 0, got 0.0"),
        (["--ratio", "0.5", "--macs", "2"], "give ratio or macs, not both"),
        (["--latency", "2", "--macs", "2"], "--latency is a goal of its own; leave --ratio and --macs out"),
        (["--method", "chanels"], "unknown method 'chanels'; did you mean 'channels'?"),
        (["--importance", "l3"], "--importance: input should be 'auto', 'reconstruction'"),
        (["--allocation", "sensitivity"], "there is none; give --data DATA"),
        (["--ratio", "0.98", "--allocation", "layer", "--round-to", "1"], "would leave nothing of layer 'conv0'"),
    ],
)
def test_wrong_options_are_one_line(cli: Cli, model: Path, tmp_path: Path, args: list[str], message: str) -> None:
    out = tmp_path / "out.onnx"
    answer = cli("prune", model, "--out", out, *args)
    assert (answer.code, answer.out) == (1, "")
    line = answer.err.splitlines()[-1]
    assert line.startswith("error: ")
    assert message in line
    assert not out.exists()
