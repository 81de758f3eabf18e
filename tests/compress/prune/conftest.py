"""Pico models and tiny data for what works on the torch model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit import progress
from edgekit.compress import TorchStep
from edgekit.data import DataSource, for_model, resolve_source
from edgekit.families import FAMILIES
from edgekit.judge import bind_judge
from edgekit.pipeline.torch_step import TorchWork
from edgekit.tasks import TASKS, find_metric
from edgekit.training.checkpoint import TrainedModel, save_checkpoint
from edgekit.training.config import TrainConfig
from edgekit.training.fit import card_for
from tests.data.text.conftest import sentences

Prepare = Callable[..., TorchStep]


TEXT, SERIES = "text", "series"


@pytest.fixture
def source_of(tmp_path: Path) -> Callable[[str], DataSource]:
    """The source of a data set; "text" is a few sentences as bytes, "series" is noise."""

    def find(data: str) -> DataSource:
        if data == SERIES:
            rng, path = np.random.default_rng(0), tmp_path / "series.npz"
            labels = np.arange(80) % 3
            lengths = rng.integers(2, 7, 80)
            series = rng.standard_normal((80, 6, 4)).astype(np.float32) * (np.arange(6) < lengths[:, None])[..., None]
            np.savez(path, series=series.astype(np.float32), lengths=lengths, labels=labels)
            return resolve_source(str(path))
        if data != TEXT:
            return resolve_source(data)
        novel = tmp_path / "novel.txt"
        novel.write_text("\n\n".join(sentences(60)), encoding="utf-8")
        return resolve_source(f"{{file: {novel}, tokenizer: bytes, length: 16}}")

    return find


@pytest.fixture
def model_of(source_of: Callable[[str], DataSource]) -> Callable[..., TrainedModel]:
    """An untrained model of a family for a data set, its normalisations stirred so that no two channels are alike."""

    def build(family: str, size: str = "pico", data: str = "digits") -> TrainedModel:
        source = source_of(data)
        loaded = source.load(None, source.task_for(FAMILIES[family].tasks))
        torch.manual_seed(0)
        card = card_for(family, size, loaded)
        module = card.build().eval()
        with torch.no_grad():
            for name, value in [*module.named_parameters(), *module.named_buffers()]:
                if value.ndim == 1 and value.is_floating_point():
                    value.uniform_(0.5, 1.5) if "var" in name else value.add_(0.3 * torch.randn_like(value))
        return TrainedModel(module, card)

    return build


@pytest.fixture
def step_of(tmp_path: Path, model_of: Callable[..., TrainedModel], source_of: Callable[[str], DataSource]) -> Prepare:
    """A step on such a model, in a directory of its own."""

    def prepare(family: str, size: str = "pico", data: str = "digits", **train: object) -> TorchStep:
        progress.set_quiet(True)
        model, place = model_of(family, size, data), tmp_path / "base"
        save_checkpoint(model, place, {})
        source = source_of(data)
        loaded = for_model(source.load(None, model.card.task), model.card.model_inputs)
        work = TorchWork(
            checkpoint=place,
            base=place,
            out=tmp_path / "link" / "checkpoint",
            load_data=lambda: loaded,
            fingerprint=source.fingerprint(None),
            metric=bind_judge(find_metric(TASKS[model.card.task].metric), data),
            train=TrainConfig(**train),
            work=tmp_path / "link",
            threads=1,
        )
        return work.step()

    return prepare
