"""Students that learn: better than alone, the same after an interruption, whatever the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.compress.distill import answers
from edgekit.compress.distill.config import DistillConfig
from edgekit.compress.distill.run import schedule
from edgekit.compress.distill.teacher import OnnxTeacher, TorchTeacher
from edgekit.data import DataSet, find_source, for_model
from edgekit.errors import CompressError
from edgekit.evaluate import evaluate
from edgekit.tasks import Metric, find_metric
from edgekit.training.checkpoint import CONFIG, TrainedModel, load_checkpoint, read_config
from edgekit.training.config import AugmentConfig, TrainConfig
from edgekit.training.fit import card_for, fit
from edgekit.training.module import FitModule
from tests.compress.distill.conftest import config_of, poisoned, same_weights

Distil = Callable[..., TrainedModel]


def few(data: DataSet, count: int, *, labels: bool = True) -> DataSet:
    """The data with so many training samples, of which the labels may be wrong."""
    train = data.splits["train"].take(count)
    wrong = replace(train, labels=np.zeros(count, np.int64))
    return replace(data, splits={**data.splits, "train": train if labels else wrong})


def test_a_student_learns_more_from_its_teacher_than_from_few_labels(
    digits: DataSet, distilled: Distil, tmp_path: Path
) -> None:
    """Of 100 samples it knows what the teacher, who saw them all, thinks of each class."""
    data, top1 = few(digits, 100), find_metric("top1")
    train = {"epochs": 20, "batch_size": 50}
    taught = distilled(tmp_path / "taught", data=data, train=train)
    config = TrainConfig(**{"learning_rate": 1e-2, **train})
    alone = fit(card_for("mlp", "pico", data), lambda: data, config, tmp_path / "alone", fingerprint="few")
    values = [evaluate(m, digits.splits["test"], top1).value for m in (taught, alone)]
    assert values[0] > values[1] + 0.01


def test_labels_are_not_looked_at_where_the_weight_is_1(digits: DataSet, distilled: Distil, tmp_path: Path) -> None:
    models = [
        distilled(tmp_path / str(labels), data=few(digits, 200, labels=labels), weight=1.0) for labels in (True, False)
    ]
    assert same_weights(*models)


@pytest.mark.parametrize(
    ("method", "student", "options"),
    [
        ("decoupled", "mlp", {"others": 4.0}),
        ("features", "cnn", {}),
        ("relation", "mlp", {"weight": 0.5}),
        ("logits", "mlp", {"also": ["features", "relation"]}),
        ("logits", "mlp", {"also": {"relation": 0.01}, "temperature": 2.0}),
    ],
    ids=["decoupled", "features", "relation", "several", "several with weights"],
)
def test_every_loss_of_classifiers_trains(
    distilled: Distil, tmp_path: Path, method: str, student: str, options: dict[str, Any]
) -> None:
    distilled(tmp_path, method, student, train={"epochs": 3}, **options)
    told = read_config(tmp_path)
    losses = [row["loss"] for row in told["history"]]
    assert losses[-1] < 0.9 * losses[0]
    assert told["validation"]["value"] > 0.6


def test_projections_are_trained_and_not_saved(distilled: Distil, tmp_path: Path) -> None:
    distilled(tmp_path, "features", "cnn", train={"epochs": 1})
    last = torch.load(next((tmp_path / "work").glob("*/last.ckpt")), weights_only=True)
    kinds = {name.split(".")[0] for name in last["state_dict"]}
    assert kinds == {"module", "objective"}
    assert load_checkpoint(tmp_path).card.size == "pico"


PLENTY = {"ema": 0.99, "augment": {"flip": True, "shift": 1, "mixup": 0.2}, "clip_gradients": 1.0}


@pytest.mark.parametrize(
    ("method", "train"),
    [("logits", {}), ("logits", {"augment": {"flip": True}}), ("features", PLENTY)],
    ids=["answers kept", "answers kept, mirrored", "asked anew"],
)
def test_a_distillation_that_was_cut_off_ends_with_the_weights_of_one_that_was_not(
    distilled: Distil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, train: dict[str, Any]
) -> None:
    student, train = ("cnn" if method == "features" else "mlp"), {**train, "epochs": 3}
    whole = distilled(tmp_path / "whole", method, student, train=train)
    original = FitModule.training_step

    def cut(self: FitModule, batch: Any, index: int) -> Any:
        if self.current_epoch == 1 and index == 5:
            raise MemoryError("as if killed")
        return original(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(FitModule, "training_step", cut)
        with pytest.raises(MemoryError):
            distilled(tmp_path / "cut", method, student, train=train)
    assert not (tmp_path / "cut" / CONFIG).exists()
    assert same_weights(distilled(tmp_path / "cut", method, student, train=train), whole)


@pytest.mark.parametrize("flip", [False, True])
def test_kept_answers_teach_what_live_ones_do(
    distilled: Distil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flip: bool
) -> None:
    train = {"augment": {"flip": flip}, "precision": "32-true"}
    kept = distilled(tmp_path / "kept", train=train)
    assert list((tmp_path / "kept").glob("teacher/*/answers.json"))
    monkeypatch.setattr(answers, "MOST_BYTES", 0)
    monkeypatch.setattr("edgekit.compress.distill.lesson.may_keep", lambda config, data: False)
    live = distilled(tmp_path / "live", train=train)
    assert not list((tmp_path / "live").glob("teacher/*"))
    for name, value in kept.module.state_dict().items():
        torch.testing.assert_close(live.module.state_dict()[name], value, rtol=1e-3, atol=1e-3)


def test_an_onnx_file_teaches_what_its_torch_model_does(
    distilled: Distil, teacher: TorchTeacher, pico_onnx: Path, digits: DataSet, tmp_path: Path
) -> None:
    file = OnnxTeacher(pico_onnx, "cnn.onnx")
    x = torch.from_numpy(digits.splits["test"].arrays["image"][:50])
    torch.testing.assert_close(file.look([x]).outputs[0], teacher.look([x]).outputs[0], rtol=1e-4, atol=1e-4)
    train = {"precision": "32-true"}
    models = [distilled(tmp_path / name, teacher=t, train=train) for name, t in (("onnx", file), ("torch", teacher))]
    top1 = find_metric("top1")
    values = [evaluate(m, digits.splits["test"], top1).value for m in models]
    assert values[0] == pytest.approx(values[1], abs=0.01)


def test_what_was_distilled_is_not_distilled_again_and_other_options_are(
    distilled: Distil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = distilled(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(FitModule, "training_step", None)
        assert same_weights(distilled(tmp_path), first)
    assert not same_weights(distilled(tmp_path, temperature=1.0), first)


def test_a_teacher_that_gives_nan_is_one_line_with_the_sample(
    distilled: Distil, pico_cnn: Path, tmp_path: Path
) -> None:
    broken = TorchTeacher(poisoned(load_checkpoint(pico_cnn)), "broken")
    for train in ({}, {"augment": {"shift": 1}}):
        with pytest.raises(CompressError, match=r"^teacher broken gives NaN or Inf for training samples? \d+.*another"):
            distilled(tmp_path, teacher=broken, train=train)
    assert not (tmp_path / CONFIG).exists()


def test_a_teacher_of_other_classes_is_one_line(
    distilled: Distil, pico_cnn: Path, tmp_path: Path, digits: DataSet
) -> None:
    model = load_checkpoint(pico_cnn)
    model.module[-1] = torch.nn.Linear(model.module[-1].in_features, 7)  # type: ignore[operator, union-attr, index, arg-type]
    with pytest.raises(CompressError, match=r"^teacher of 7 gives 7 classes, and the student gives 10; give a teacher"):
        distilled(tmp_path, teacher=TorchTeacher(model, "of 7"))


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (
            "outputs",
            "`distill: outputs` is for regression, reconstruction, generation, and this is classification; use "
            "`distill: logits`",
        ),
        (
            "sequences",
            "`distill: sequences` is for language-modelling, and this is classification; use `distill: logits`",
        ),
        ("transformer", "`transformer` compares attention and hidden states, and the student shows no blocks with"),
    ],
)
def test_losses_that_mean_nothing_here_are_one_line(distilled: Distil, tmp_path: Path, method: str, said: str) -> None:
    with pytest.raises(CompressError, match=f"^{said}"):
        distilled(tmp_path, method)


def test_the_schedule_is_that_of_the_base_but_for_what_is_said() -> None:
    base = TrainConfig(epochs=7, ema=0.9, freeze=["0.*"], init="somewhere", augment=AugmentConfig(flip=True))
    config = config_of("logits", size="pico", train={"epochs": 9, "learning_rate": 0.5})
    assert schedule(config, base) == TrainConfig(epochs=9, learning_rate=0.5, ema=0.9, augment=AugmentConfig(flip=True))


def test_numbers_are_learnt_by_their_outputs(tmp_path: Path, distilled: Distil) -> None:
    source = find_source("diabetes")
    data = source.load(None, "regression")
    config = TrainConfig(epochs=3, batch_size=32, learning_rate=1e-2)
    base = fit(card_for("mlp", "pico", data), lambda: data, config, tmp_path / "base", fingerprint="d")
    distilled(tmp_path, "outputs", data=data, teacher=TorchTeacher(base, "base"), weight=1.0, train={"epochs": 30})
    losses = [row["loss"] for row in read_config(tmp_path)["history"]]
    assert losses[-1] < 0.2 * losses[0]


def test_autoencoders_of_other_latents_learn_the_picture(tmp_path: Path, distilled: Distil) -> None:
    source = find_source("digits").load(None, "reconstruction")
    card = card_for("vae", "pico-dense", source)
    data = for_model(source, card.model_inputs)
    config = TrainConfig(epochs=2, batch_size=100, learning_rate=1e-2)
    base = fit(card, lambda: data, config, tmp_path / "base", fingerprint="v")
    wide = replace(data, latents=data.latents)
    distilled(tmp_path, "outputs", "vae", data=wide, teacher=TorchTeacher(base, "base"), train={"epochs": 3})
    losses = [row["loss"] for row in read_config(tmp_path)["history"]]
    assert losses[-1] < losses[0]


APART = Metric("apart", False, "", lambda o, y, f: np.abs(o[0].mean(0) - y.mean(0)).mean() * np.ones(len(o[0])))


def test_a_generator_learns_the_pictures_of_another_from_the_same_noise(tmp_path: Path) -> None:
    from edgekit.compress.distill.run import Distilling
    from edgekit.compress.distill.student import new_student

    source = find_source("digits").load(None, "generation")
    card = card_for("gan", "pico", source)
    data = for_model(source, card.model_inputs)
    config = TrainConfig(epochs=1, batch_size=128, learning_rate=1e-3)
    base = fit(card, lambda: data, config, tmp_path / "base", fingerprint="g", metric=APART)
    options = config_of("outputs", weight=1.0, train={"epochs": 6, "batch_size": 128, "learning_rate": 2e-3})
    work = Distilling(
        options,
        new_student("gan", "pico", data),
        TorchTeacher(base, "base"),
        TrainConfig(),
        tmp_path,
        tmp_path,
        "g",
        APART,
    )
    student = work.run()
    z = data.splits["test"].arrays["z"][:64]
    wanted, found = base.run({"z": z})[0], student.run({"z": z})[0]
    other = base.run({"z": z[::-1].copy()})[0]
    assert np.square(found - wanted).mean() < 0.5 * np.square(other - wanted).mean()


def test_the_config_says_who_the_teachers_are() -> None:
    assert config_of("logits", size="pico").teachers == ("base",)
    several: DistillConfig = config_of("logits", size="pico", teacher=["base", "x.onnx"])
    assert several.teachers == ("base", "x.onnx")
    assert several.reads == ("x.onnx",)
