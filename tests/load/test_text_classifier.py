"""Hugging Face encoders as classifiers: loaded, trained on, kept as a checkpoint, exported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.data import DataSet, Split
from edgekit.errors import ModelError
from edgekit.export.torch_onnx import export_onnx
from edgekit.load import Description, ModelSource, adapted, load_model, open_checkpoint
from edgekit.ort import Session
from edgekit.training.checkpoint import TrainedModel, save_checkpoint
from edgekit.training.config import TrainConfig
from edgekit.training.fit import fit
from tests.load.language_models import WORDS, save_model

SIGN = 33  # a text with this token is spam


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("encoders")
    for name in ("bert", "bert-classes", "distilbert-tokens", "gpt2"):
        save_model(name, place)
    return place


def loaded(place: Path) -> TrainedModel:
    return load_model(ModelSource(hf=str(place)), Description())


def mails(name: str, count: int, length: int = 12) -> Split:
    rng = np.random.default_rng(len(name))
    ids = rng.integers(34, WORDS, (count, length))
    labels = rng.integers(0, 2, count)
    ids[labels == 1, 1] = SIGN
    mask = (np.arange(length) < rng.integers(3, length + 1, count)[:, None]).astype(np.int64)
    return Split(name, {"ids": ids * mask, "mask": mask}, labels)


def data_set(model: TrainedModel) -> DataSet:
    splits = {"train": mails("train", 256), "validation": mails("validation", 64)}
    return DataSet("mails", "classification", model.inputs, ("ham", "spam"), None, splits)


def test_a_classifier_keeps_its_classes(saved: Path, tmp_path: Path) -> None:
    model = loaded(saved / "bert-classes")
    assert (model.card.family, model.card.classes) == ("hf:bert", ("ham", "spam"))
    assert [str(s) for s in model.inputs] == ["ids: int64 batchxlength", "mask: int64 batchxlength"]
    assert model.inputs[0].vocabulary == WORDS
    assert model.card.limits == {"length": 80}
    done = export_onnx(model, tmp_path / "m.onnx")
    assert done.parity.padded
    assert done.parity.lengths == (1, 3, 64, 80)
    part = mails("test", 5)
    np.testing.assert_allclose(Session(tmp_path / "m.onnx").run(part.arrays)[0], model.run(part.arrays)[0], atol=1e-5)


def test_a_model_without_classes_gets_a_layer_for_them_by_training(saved: Path, tmp_path: Path) -> None:
    assert loaded(saved / "bert").card.architecture["untrained_head"]
    model = loaded(saved / "distilbert-tokens")
    assert model.card.classes == ()
    data = data_set(model)
    with pytest.raises(ModelError, match=r"has no trained layer for classes: .*; add `train` to train one"):
        adapted(model, data, trains=False)
    start = adapted(model, data, trains=True)
    config = TrainConfig(epochs=6, batch_size=16, learning_rate=3e-3, precision="32-true")
    done = fit(start.card, lambda: data, config, tmp_path / "c", fingerprint="1", start=start)
    assert done.card.classes == ("ham", "spam")
    again = open_checkpoint(tmp_path / "c")
    test = mails("test", 100)
    answers = again.run(test.arrays)[0]
    np.testing.assert_array_equal(answers, done.run(test.arrays)[0])
    assert (answers.argmax(1) == test.labels).mean() >= 0.95
    export_onnx(again, tmp_path / "m.onnx")


def test_more_classes_than_the_model_has(saved: Path, tmp_path: Path) -> None:
    model = loaded(saved / "bert-classes")
    more = DataSet("mails", "classification", model.inputs, ("a", "b", "c"), None, {})
    start = adapted(model, more, trains=True)
    assert start.run(mails("test", 2).arrays)[0].shape == (2, 3)
    save_checkpoint(start, tmp_path / "c", {})
    assert open_checkpoint(tmp_path / "c").run(mails("test", 2).arrays)[0].shape == (2, 3)


def test_data_of_another_tokeniser_is_refused(saved: Path) -> None:
    model = loaded(saved / "bert-classes")
    other = replace(data_set(model), inputs=(replace(model.inputs[0], vocabulary=4096), model.inputs[1]))
    with pytest.raises(
        ModelError, match="the tokeniser of mails has 4,096 tokens, and hf:bert has 50: it is of another"
    ):
        adapted(model, other, trains=True)


def test_a_model_that_writes_text_is_no_classifier(saved: Path) -> None:
    with pytest.raises(ModelError, match=r"is a model for text-generation-with-past: it can be exported \(`edgekit"):
        loaded(saved / "gpt2")
