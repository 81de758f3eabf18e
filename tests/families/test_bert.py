"""BERT: shapes, padding, what pretraining learns, and its body under other heads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.data import DataSet
from edgekit.data.pretraining import SpecialTokens, pretraining_split
from edgekit.errors import RecipeError, TrainingError
from edgekit.evaluate import evaluate
from edgekit.export.torch_onnx import export_onnx
from edgekit.families import FAMILIES
from edgekit.families.bert import pretraining_inputs
from edgekit.ort import Session
from edgekit.tasks import find_metric
from edgekit.training.checkpoint import ModelCard, TrainedModel
from edgekit.training.config import TrainConfig
from edgekit.training.fit import card_for, fit
from edgekit.training.start import starting_module

BERT = FAMILIES["bert"]
WORDS, FIRST = 40, 5
SPECIAL = SpecialTokens(first=2, separator=3, mask=4, pad=0, vocabulary=WORDS)
INPUTS = pretraining_inputs(WORDS)
TEXT = INPUTS[:2]


def card(task: str, classes: tuple[str, ...] = ()) -> ModelCard:
    inputs = INPUTS if task == "masked-language-modelling" else TEXT
    return ModelCard("bert", "pico", task, "made up", classes, inputs, {})


def built(task: str, classes: tuple[str, ...] = ()) -> TrainedModel:
    torch.manual_seed(0)
    said = card(task, classes)
    return TrainedModel(said.build().eval(), said)


def counting(count: int, seed: int = 0) -> list[np.ndarray]:
    """Texts that count upwards from anywhere: every masked token follows from its neighbours."""
    starts = np.random.default_rng(seed).integers(0, WORDS - FIRST, count)
    return [FIRST + (start + np.arange(12)) % (WORDS - FIRST) for start in starts]


def test_shapes_of_each_head() -> None:
    ids = {"ids": np.full((3, 6), 7), "mask": np.ones((3, 6), np.int64), "segments": np.zeros((3, 6), np.int64)}
    tokens, follows = built("masked-language-modelling").run(ids)
    assert (tokens.shape, follows.shape) == ((3, 6, WORDS), (3, 2))
    assert built("classification", ("a", "b", "c")).run(ids)[0].shape == (3, 3)
    assert BERT.make("pico", TEXT, 4, task="step-classification")(*map(torch.tensor, list(ids.values())[:2])).shape == (
        *(3, 6),
        4,
    )


def test_padding_changes_nothing() -> None:
    model = built("classification", ("a", "b"))
    ids = np.random.default_rng(0).integers(FIRST, WORDS, (2, 5))
    alone = model.run({"ids": ids, "mask": np.ones_like(ids)})[0]
    wide = np.pad(ids, ((0, 0), (0, 4)), constant_values=9)
    padded = model.run({"ids": wide, "mask": np.pad(np.ones_like(ids), ((0, 0), (0, 4)))})[0]
    np.testing.assert_allclose(padded, alone, atol=1e-6)


def test_the_fused_attention_of_training_is_that_of_evaluation() -> None:
    model = built("classification", ("a", "b")).module
    ids, mask = torch.randint(FIRST, WORDS, (2, 5)), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    with torch.no_grad():
        torch.testing.assert_close(model.train()(ids, mask), model.eval()(ids, mask), atol=1e-5, rtol=1e-5)


def test_tokens_and_their_last_layer_are_one_table() -> None:
    names = [n for n, p in built("masked-language-modelling").module.named_parameters() if WORDS in p.shape]
    assert names == ["bias", "encoder.tokens.weight"]


@pytest.mark.parametrize(("task", "classes"), [("masked-language-modelling", ()), ("classification", ("a", "b"))])
def test_exports_at_every_length_padded_and_not(task: str, classes: tuple[str, ...], tmp_path: Path) -> None:
    done = export_onnx(built(task, classes), tmp_path / "m.onnx")
    assert done.parity.lengths == (1, 3, 64, 128)
    assert done.parity.padded
    names = ["token_logits", "next_logits"] if task == "masked-language-modelling" else ["logits"]
    assert [o.name for o in Session(tmp_path / "m.onnx").outputs] == names


def test_embeddings_are_a_part_of_length_one(tmp_path: Path) -> None:
    part = built("masked-language-modelling").take("embedding")
    assert [s.name for s in part.inputs] == ["ids", "mask"]
    export_onnx(part, tmp_path / "m.onnx")
    ids = np.random.default_rng(0).integers(FIRST, WORDS, (4, 9))
    found = Session(tmp_path / "m.onnx").run({"ids": ids, "mask": np.ones_like(ids)})[0]
    assert found.shape == (4, 32)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedModel, DataSet, Path]:
    splits = {
        name: pretraining_split(name, counting(count, count), SPECIAL, 16, seed=count, copies=copies)
        for name, count, copies in (("train", 300, 4), ("validation", 100, 1))
    }
    data = DataSet("made up", "masked-language-modelling", INPUTS, (), None, splits)
    out = tmp_path_factory.mktemp("bert") / "c"
    config = TrainConfig(epochs=8, batch_size=64, learning_rate=5e-3, precision="32-true")
    return fit(card_for("bert", "pico", data), lambda: data, config, out, fingerprint="1"), data, out


def test_pretraining_beats_the_commonest_token_by_far(pretrained: tuple[TrainedModel, DataSet, Path]) -> None:
    model, data, _ = pretrained
    found = {
        name: evaluate(model, data.splits["validation"], find_metric(name)).value
        for name in ("masked-accuracy", "unigram-accuracy")
    }
    assert found["unigram-accuracy"] < 0.15
    assert found["masked-accuracy"] > 3 * found["unigram-accuracy"]


def test_another_task_takes_the_encoder(pretrained: tuple[TrainedModel, DataSet, Path]) -> None:
    model, _, out = pretrained
    started = starting_module(card("classification", ("a", "b")), str(out))
    for name, value in model.module.get_submodule("encoder").state_dict().items():
        torch.testing.assert_close(started.get_submodule("encoder").state_dict()[name], value)
    other = replace(card("classification", ("a", "b")), inputs=(replace(TEXT[0], vocabulary=50), TEXT[1]))
    with pytest.raises(TrainingError, match=r"encoder.tokens.weight \(40, 32\) for \(50, 32\); start from a model of"):
        starting_module(other, str(out))


def test_inputs_that_are_no_text() -> None:
    with pytest.raises(
        RecipeError, match=r"family 'bert' takes ids, mask, segments .* got ids: int64 batchxlength, mask"
    ):
        BERT.make("pico", TEXT, 0, task="masked-language-modelling")
