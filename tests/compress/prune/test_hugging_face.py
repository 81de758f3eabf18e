"""Encoders of Hugging Face lose blocks, heads and hidden units, and are loaded again as they were left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.compress import TorchStep
from edgekit.compress.prune.channels import ChannelsConfig, prune_channels
from edgekit.compress.prune.heads import HeadsConfig, heads_of, prune_heads
from edgekit.compress.prune.layers import LayersConfig, prune_layers
from edgekit.data import DataSet, Split
from edgekit.export.torch_onnx import export_onnx
from edgekit.load import Description, ModelSource, load_model
from edgekit.pipeline.torch_step import TorchWork
from edgekit.tasks import find_metric
from edgekit.training.checkpoint import TrainedModel, save_checkpoint
from edgekit.training.config import TrainConfig
from tests.load.language_models import WORDS, save_model, save_tokenizer

ENCODERS = ("bert-classes", "distilbert-tokens")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("encoders")
    for name in ENCODERS:
        save_model(name, place)
    save_deep_bert(place / "bert-deep")
    return place


def save_deep_bert(place: Path) -> None:
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=WORDS, max_position_embeddings=80, **sizes)
    transformers.BertForSequenceClassification(config).eval().save_pretrained(place)
    save_tokenizer(place)


def texts(name: str, count: int) -> Split:
    rng = np.random.default_rng(len(name))
    mask = (np.arange(12) < rng.integers(3, 13, count)[:, None]).astype(np.int64)
    return Split(name, {"ids": rng.integers(5, WORDS, (count, 12)) * mask, "mask": mask}, rng.integers(0, 2, count))


@pytest.fixture(params=ENCODERS)
def step(request: pytest.FixtureRequest, saved: Path, tmp_path: Path) -> TorchStep:
    """A step on an encoder with random weights."""
    from edgekit.load import adapted

    model = load_model(ModelSource(hf=str(saved / request.param)), Description())
    splits = {name: texts(name, 16) for name in ("train", "calibration", "validation", "test")}
    data = DataSet("mails", "classification", model.inputs, ("ham", "spam"), None, splits)
    model = adapted(model, data, trains=True)
    save_checkpoint(model, tmp_path / "base", {})
    work = TorchWork(
        checkpoint=tmp_path / "base",
        base=tmp_path / "base",
        out=tmp_path / "out",
        load_data=lambda: data,
        fingerprint="1",
        metric=find_metric("top1"),
        train=TrainConfig(batch_size=8, precision="32-true"),
        work=tmp_path / "work",
    )
    return work.step()


def check(step: TorchStep, tmp_path: Path) -> TrainedModel:
    """The pruned model, loaded again and exported."""
    model = step.open(step.out)
    assert export_onnx(model, tmp_path / "m.onnx").parity.max_abs < 1e-4
    return model


@pytest.mark.parametrize("step", ["bert-deep"], indirect=True)
def test_blocks(step: TorchStep, tmp_path: Path) -> None:
    result = prune_layers(LayersConfig(left=1, samples=8, finetune=None), step)
    assert "2 of 3 blocks removed" in result.reason
    (path,) = result.details["removed_blocks"]
    model = check(step, tmp_path)
    container: Any = model.module.get_submodule(path)
    assert len(container) == 1


def test_heads_with_fine_tuning(step: TorchStep, tmp_path: Path) -> None:
    before = heads_of(step.model.module)
    config = HeadsConfig.model_validate({"ratio": 0.5, "samples": 8, "finetune": {"epochs": 1}})
    prune_heads(config, step)
    assert heads_of(check(step, tmp_path).module) == before // 2


def test_hidden_units(step: TorchStep, tmp_path: Path) -> None:
    result = prune_channels(ChannelsConfig(ratio=0.3, round_to=1, finetune=None), step)
    assert result.details["parameters"]["ratio"] > 1.1
    model = check(step, tmp_path)
    sample = [torch.from_numpy(a) for a in texts("t", 2).arrays.values()]
    with torch.inference_mode():
        assert model.module(*sample).shape == (2, 2)
