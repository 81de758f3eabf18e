from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.data import find_source
from edgekit.ort import Session
from edgekit.training.checkpoint import TrainedModel, save_checkpoint
from edgekit.training.fit import card_for


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of an untrained pico VAE of digits."""
    torch.manual_seed(0)
    card = card_for("vae", "pico", find_source("digits").load(None, "reconstruction"))
    place = tmp_path_factory.mktemp("vae")
    save_checkpoint(TrainedModel(card.build().eval(), card), place, {})
    return place


def test_the_parts_apart_are_the_model_together(vae: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    for part in ("", "encoder", "decoder"):
        flags = ["--part", part] if part else []
        answer = cli("export", vae, "--out", tmp_path / f"{part or 'whole'}.onnx", *flags, "--json")
        assert answer.code == 0, answer.err
        assert json.loads(answer.out)["parity"]["max_abs"] < 1e-4
    whole, encoder, decoder = (Session(tmp_path / f"{n}.onnx") for n in ("whole", "encoder", "decoder"))
    assert [s.name for s in whole.inputs] == ["image", "noise"]
    assert [s.name for s in whole.outputs] == ["reconstruction", "mean", "log_variance", "logits"]
    assert [s.name for s in encoder.outputs] == ["mean", "log_variance"]
    assert [s.name for s in decoder.inputs] == ["z"]
    assert decoder.metadata["edgekit.part"] == "decoder"
    rng = np.random.default_rng(0)
    image, noise = rng.random((5, 1, 8, 8), np.float32), rng.standard_normal((5, 8), np.float32)
    picture, mean, log_variance, _ = whole.run({"image": image, "noise": noise})
    apart_mean, apart_log_variance = encoder.run({"image": image})
    np.testing.assert_allclose(apart_mean, mean, atol=1e-5)
    np.testing.assert_allclose(apart_log_variance, log_variance, atol=1e-5)
    (drawn,) = decoder.run({"z": apart_mean + np.exp(apart_log_variance / 2) * noise})
    np.testing.assert_allclose(drawn, picture, atol=1e-5)


def test_a_part_that_is_not_there(vae: Path, pico_mlp: Path, pico_onnx: Path, tmp_path: Path, cli: Any) -> None:
    out = tmp_path / "o.onnx"
    wrong = cli("export", vae, "--out", out, "--part", "decodr")
    assert wrong.code == 1
    assert wrong.err == (
        "error: model of family 'vae': unknown part 'decodr'; did you mean 'decoder'? allowed: decoder, encoder\n"
    )
    none = cli("export", pico_mlp, "--out", out, "--part", "head")
    assert none.err == "error: model of family 'mlp': it has no parts, got 'head'; leave it out\n"
    onnx = cli("export", pico_onnx, "--out", out, "--part", "decoder")
    assert onnx.err.endswith("is an ONNX file and has no parts, got 'decoder'; give the checkpoint\n")
    assert not out.exists()
