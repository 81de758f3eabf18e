from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit import progress
from edgekit.load import open_checkpoint
from edgekit.training.request import train_family

Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a pico network."""
    place = tmp_path_factory.mktemp("prune") / "base"
    progress.set_quiet(True)
    train_family("cnn", "pico", "digits", place, {"epochs": 3, "batch_size": 64, "learning_rate": 1e-2})
    return place


def test_a_checkpoint_is_pruned_fine_tuned_and_exported(cli: Cli, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "half"
    options = ("--ratio", 0.5, "--epochs", 1, "--set", "round_to=2", "--set", "finetune.learning_rate=5e-3")
    answer = cli("prune", trained, "--method", "channels", "--data", "digits", "--out", out, *options, "--json")
    assert answer.code == 0, answer.err
    found = answer.json()
    assert (found["status"], found["method"], found["metric"]) == ("ok", "prune: channels", "top1")
    assert found["details"]["macs"]["ratio"] > 2
    assert [link["name"] for link in found["details"]["links"]] == ["pruned", "fine-tuned"]
    assert found["drop"] == pytest.approx(found["before"] - found["after"])
    assert found["n"] == 360
    pruned = open_checkpoint(out)
    assert sum(p.numel() for p in pruned.module.parameters()) == found["details"]["parameters"]["after"]
    card = json.loads((out / "config.json").read_text())["card"]
    assert card["edits"]["layers"]["0"]["numbers"]["out_channels"] < 8
    exported = cli("export", out, "--out", tmp_path / "half.onnx", "--json")
    assert exported.json()["parity"]["max_abs"] < 1e-4
    again = cli("prune", trained, "--method", "channels", "--data", "digits", "--out", out, *options, "--json")
    assert again.json()["after"] == found["after"]


def test_the_table_and_a_floor(cli: Cli, trained: Path, tmp_path: Path) -> None:
    options = ("--data", "digits", "--out", tmp_path / "o", "--epochs", 0, "--set", "macs=3", "--set", "round_to=1")
    answer = cli("prune", trained, *options, "--max-drop", 0.01)
    assert answer.code == 3
    assert "top1 drops by" in answer.err
    assert "more than --max-drop 0.01" in answer.err
    assert "x fewer" in answer.out
    assert (tmp_path / "o" / "config.json").is_file()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "chanels", "--ratio", "0.5"], "unknown pruning method 'chanels'; did you mean 'channels'?"),
        (["--ratio", "1.5"], "ratio: input should be less than 1, got 1.5"),
        ([], "needs exactly one of ratio, macs, parameters, latency as its goal, got none"),
        (["--ratio", "0.5", "--set", "ratoi=1"], "unknown key 'ratoi'; did you mean 'ratio'?"),
        (["--method", "heads"], "family 'cnn' refuses `prune: heads`: it has no attention heads"),
        (["--method", "layers", "--set", "left=1"], "family 'cnn' refuses `prune: layers`: it has no residual blocks"),
        (["--ratio", "0.97"], "ratio 0.97 would empty layer '"),
        (
            ["--method", "magnitude", "--ratio", "0.5", "--epochs", "1", "--set", "ramp=2"],
            "a schedule of 2 epochs is longer than the training of 1; shorten it",
        ),
    ],
)
def test_what_cannot_be_done(options: list[str], said: str, cli: Cli, trained: Path, tmp_path: Path) -> None:
    answer = cli("prune", trained, "--data", "digits", "--out", tmp_path / "o", *options)
    assert answer.code == 1
    assert said in answer.err
    assert answer.out == ""
    assert len(answer.err.splitlines()) == 1
    assert not (tmp_path / "o" / "config.json").exists()


def test_sources_and_data_that_are_not_there(cli: Cli, trained: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "o", "--ratio", 0.5)
    assert "is no checkpoint of edgekit" in cli("prune", tmp_path, "--data", "digits", *out).err
    assert "unknown data 'digit'" in cli("prune", trained, "--data", "digit", *out).err
    assert "pruning a checkpoint needs data to choose by and to fine-tune on" in cli("prune", trained, *out).err
    assert (
        "--metric does not go with a checkpoint"
        in cli("prune", trained, "--data", "digits", "--metric", "top1", *out).err
    )
    same = cli("prune", trained, "--data", "digits", "--out", trained, "--ratio", 0.5)
    assert "never overwrites its input" in same.err
