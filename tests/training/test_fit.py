from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.data import load_split
from edgekit.data.dataset import DataSet
from edgekit.data.digits import fingerprint, load
from edgekit.errors import DivergenceError, RecipeError, TrainingError
from edgekit.evaluate import evaluate
from edgekit.tasks import find_metric
from edgekit.training.checkpoint import CONFIG, WEIGHTS, TrainedModel, load_checkpoint, read_config
from edgekit.training.config import AugmentConfig, TrainConfig
from edgekit.training.fit import card_for, fit
from edgekit.training.module import FitModule
from edgekit.training.request import train_family

STEPS_AN_EPOCH = 1000 // 64


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epoch of every training step that is done."""
    done: list[int] = []
    original = FitModule.training_step

    def counted(self: FitModule, batch: Any, index: int) -> Any:
        done.append(self.current_epoch)
        return original(self, batch, index)

    monkeypatch.setattr(FitModule, "training_step", counted)
    return done


def trained(digits: DataSet, out: Path, family: str = "mlp", **options: Any) -> TrainedModel:
    config = TrainConfig(**{"epochs": 3, "batch_size": 64, "learning_rate": 1e-2, **options})
    return fit(card_for(family, "pico", digits), lambda: digits, config, out, fingerprint=fingerprint())


def same_weights(a: TrainedModel, b: TrainedModel) -> bool:
    left, right = a.module.state_dict(), b.module.state_dict()
    return list(left) == list(right) and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize(("family", "bound"), [("mlp", 0.90), ("cnn", 0.93)])
def test_pico_models_learn_the_digits(family: str, bound: float, request: pytest.FixtureRequest) -> None:
    place = request.getfixturevalue(f"pico_{family}")
    value = evaluate(load_checkpoint(place), load_split("digits", "test"), find_metric("top1"))
    assert value.value >= bound
    config = read_config(place)
    assert config["validation"]["name"] == "top1"
    assert config["validation"]["value"] >= bound
    assert config["card"]["classes"] == [str(d) for d in range(10)]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(digits: DataSet, tmp_path: Path) -> None:
    first, again, other = (trained(digits, tmp_path / n, seed=s) for n, s in (("a", 1), ("b", 1), ("c", 2)))
    assert same_weights(first, again)
    assert not same_weights(first, other)


def test_what_is_returned_is_what_was_saved(digits: DataSet, tmp_path: Path) -> None:
    model = trained(digits, tmp_path)
    assert same_weights(model, load_checkpoint(tmp_path))
    assert not model.module.training
    assert list((tmp_path / "work").glob("*/tensorboard/events.*"))


def test_weights_come_back_in_the_usual_order_of_axes(digits: DataSet, tmp_path: Path) -> None:
    model = trained(digits, tmp_path, "cnn", epochs=1)
    assert all(weight.is_contiguous() for weight in model.module.parameters())


def test_what_was_trained_is_not_trained_again(digits: DataSet, tmp_path: Path, steps: list[int]) -> None:
    model = trained(digits, tmp_path)
    assert len(steps) == 3 * STEPS_AN_EPOCH
    assert same_weights(trained(digits, tmp_path), model)
    assert len(steps) == 3 * STEPS_AN_EPOCH
    trained(digits, tmp_path, epochs=1)
    assert len(steps) == 4 * STEPS_AN_EPOCH


PLENTY = {"ema": 0.99, "augment": AugmentConfig(flip=True, shift=1, erase=0.5, mixup=0.2), "clip_gradients": 1.0}


def without_seconds(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "history": [{k: v for k, v in row.items() if k != "seconds"} for row in config["history"]]}


@pytest.mark.parametrize(("family", "options"), [("mlp", {}), ("cnn", PLENTY)], ids=["plain", "all that is random"])
def test_a_training_that_was_cut_off_ends_with_the_weights_of_one_that_was_not(
    digits: DataSet,
    tmp_path: Path,
    steps: list[int],
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    options: dict[str, Any],
) -> None:
    options = {**options, "epochs": 4}
    whole = trained(digits, tmp_path / "whole", family, **options)
    steps.clear()
    counted = FitModule.training_step

    def cut(self: FitModule, batch: Any, index: int) -> Any:
        if self.current_epoch == 2 and index == 5:
            raise MemoryError("as if killed")
        return counted(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(FitModule, "training_step", cut)
        with pytest.raises(MemoryError):
            trained(digits, tmp_path / "cut", family, **options)
    assert not (tmp_path / "cut" / CONFIG).exists()
    steps.clear()
    resumed = trained(digits, tmp_path / "cut", family, **options)
    assert steps == [2] * STEPS_AN_EPOCH + [3] * STEPS_AN_EPOCH
    assert same_weights(resumed, whole)
    ours, theirs = (without_seconds(read_config(tmp_path / name)) for name in ("cut", "whole"))
    assert ours == theirs
    assert [row["epoch"] for row in ours["history"]] == [1, 2, 3, 4]


@pytest.mark.slow
def test_kill_and_rerun(digits: DataSet, tmp_path: Path, background: Callable[..., Any], steps: list[int]) -> None:
    out, epochs = tmp_path / "killed", 40
    command = ["train", "mlp", "--size", "pico", "--data", "digits", "--epochs", epochs, "--batch-size", 64, "--quiet"]
    killed = background(*command, "--learning-rate", 1e-2, "--out", out)
    killed.wait_until(lambda: list(out.glob("work/*/last.ckpt")))
    killed.stop(signal.SIGKILL)
    assert not (out / CONFIG).exists()
    (last,) = out.glob("work/*/last.ckpt")
    finished = torch.load(last, weights_only=True)["epoch"] + 1
    assert 1 <= finished < epochs
    resumed = trained(digits, out, epochs=epochs)
    assert steps == [e for e in range(finished, epochs) for _ in range(STEPS_AN_EPOCH)]
    assert same_weights(resumed, trained(digits, tmp_path / "whole", epochs=epochs))


def test_a_last_checkpoint_that_was_torn_costs_time_only(
    digits: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str], steps: list[int]
) -> None:
    model = trained(digits, tmp_path, epochs=2)
    (last,) = tmp_path.glob("work/*/last.ckpt")
    last.write_bytes(last.read_bytes()[:1000])
    (tmp_path / CONFIG).unlink()
    capsys.readouterr()
    assert same_weights(trained(digits, tmp_path, epochs=2), model)
    assert len(steps) == 4 * STEPS_AN_EPOCH
    assert f"warning: {last} is damaged (" in capsys.readouterr().err


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
@pytest.mark.parametrize("content", [b"", None], ids=["damaged", "deleted"])
def test_a_damaged_checkpoint_is_made_again_without_training(
    digits: DataSet, tmp_path: Path, steps: list[int], name: str, content: bytes | None
) -> None:
    model = trained(digits, tmp_path, epochs=1)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    assert same_weights(trained(digits, tmp_path, epochs=1), model)
    assert same_weights(load_checkpoint(tmp_path), model)
    assert len(steps) == STEPS_AN_EPOCH


def test_weights_of_somebody_else_are_not_taken_for_ours(digits: DataSet, tmp_path: Path) -> None:
    model = trained(digits, tmp_path / "a", epochs=1)
    trained(digits, tmp_path / "b", epochs=1, seed=9)
    (tmp_path / "a" / WEIGHTS).write_bytes((tmp_path / "b" / WEIGHTS).read_bytes())
    assert same_weights(trained(digits, tmp_path / "a", epochs=1), model)


def test_divergence_names_the_step_and_what_to_do(digits: DataSet, tmp_path: Path) -> None:
    with pytest.raises(DivergenceError) as error:
        trained(digits, tmp_path, learning_rate=1e38, weight_decay=0.0)
    said = str(error.value)
    assert said.startswith("training diverged: the loss is ")
    assert " at step " in said
    assert "lower `learning_rate` (now 1e+38) or set `clip_gradients`; " in said
    assert said.endswith("nothing is kept, since no epoch was finished")
    assert not (tmp_path / CONFIG).exists()


def test_the_last_good_model_is_kept_when_training_diverges(
    digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = FitModule.training_step

    def poisoned(self: FitModule, batch: Any, index: int) -> Any:
        loss = step(self, batch, index)
        return loss * float("nan") if self.current_epoch == 2 and index == 3 else loss

    with monkeypatch.context() as patch:
        patch.setattr(FitModule, "training_step", poisoned)
        with pytest.raises(DivergenceError) as error:
            trained(digits, tmp_path, epochs=4)
    said, place = str(error.value), tmp_path / "last-good"
    assert said.startswith(f"training diverged: the loss is nan at step {2 * STEPS_AN_EPOCH + 4} (epoch 3); ")
    model = load_checkpoint(place)
    value = evaluate(model, digits.splits["validation"], find_metric("top1")).value
    assert said.endswith(f"the best model before that (top1 {value:.4f}) is kept in {place}")
    assert value > 0.8
    assert read_config(place)["validation"]["value"] == pytest.approx(value, abs=1e-6)
    assert not (tmp_path / CONFIG).exists()
    trained(digits, tmp_path, epochs=4)  # from the last epoch that was good
    assert not place.exists()
    assert load_checkpoint(tmp_path).card == model.card


def test_weights_that_are_not_finite_are_not_taken_for_a_model(
    digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = FitModule.training_step

    def poisoned(self: FitModule, batch: Any, index: int) -> Any:
        loss = step(self, batch, index)
        return loss * float("nan") if index == STEPS_AN_EPOCH - 1 else loss

    monkeypatch.setattr(FitModule, "training_step", poisoned)
    with pytest.raises(
        DivergenceError, match=rf"outputs on validation data are not finite after step {STEPS_AN_EPOCH} "
    ):
        trained(digits, tmp_path)


def test_training_stops_when_nothing_is_gained(digits: DataSet, tmp_path: Path, steps: list[int]) -> None:
    trained(digits, tmp_path, epochs=50, patience=1, learning_rate=1e-9)
    assert max(steps) + 1 < 50


def test_the_best_epoch_is_kept(digits: DataSet, tmp_path: Path) -> None:
    model = trained(digits, tmp_path, epochs=4)
    value = evaluate(model, digits.splits["validation"], find_metric("top1")).value
    assert read_config(tmp_path)["validation"]["value"] == pytest.approx(value, abs=1e-6)


def test_the_history_is_that_of_the_training(digits: DataSet, tmp_path: Path) -> None:
    trained(digits, tmp_path, epochs=4)
    config = read_config(tmp_path)
    rows = config["history"]
    assert [list(row) for row in rows] == [["epoch", "loss", "validation", "learning_rate", "seconds"]] * 4
    assert rows[0]["loss"] > rows[-1]["loss"] > 0
    assert max(row["validation"] for row in rows) == pytest.approx(config["validation"]["value"])
    assert rows[0]["learning_rate"] == pytest.approx(1e-2, rel=0.01)  # the peak: a quarter of the steps is warm-up
    assert rows[-1]["learning_rate"] < 1e-4
    assert all(row["seconds"] > 0 for row in rows)


def test_the_average_of_the_weights_is_judged_and_saved(digits: DataSet, tmp_path: Path) -> None:
    model = trained(digits, tmp_path / "average", ema=0.9)
    value = evaluate(model, digits.splits["validation"], find_metric("top1")).value
    assert read_config(tmp_path / "average")["validation"]["value"] == pytest.approx(value, abs=1e-6)
    assert value > 0.85
    plain = trained(digits, tmp_path / "plain")
    assert not same_weights(model, plain)
    for name, ours in model.module.state_dict().items():
        theirs = plain.module.state_dict()[name]
        if ours.is_floating_point():
            assert torch.linalg.vector_norm(ours - theirs) < 0.5 * torch.linalg.vector_norm(theirs), name
        else:
            assert ours == theirs, name


@pytest.mark.parametrize(
    "options", [{"accelerator": "abacus"}, {"precision": "3"}, {"strategy": "none such"}, {"accelerator": "cuda"}]
)
def test_what_lightning_refuses(digits: DataSet, tmp_path: Path, options: dict[str, Any]) -> None:
    if options == {"accelerator": "cuda"} and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(TrainingError, match=r"Lightning refuses the training configuration: .+"):
        trained(digits, tmp_path, **options)
    assert not (tmp_path / CONFIG).exists()


def test_labels_beyond_the_classes_are_not_trained_on(tmp_path: Path) -> None:
    """A data set of one's own has as many classes as its labels say."""
    x, labels = np.random.default_rng(0).standard_normal((60, 6)).astype(np.float32), np.arange(60) % 3
    np.savez(tmp_path / "d.npz", x=x, labels=labels)
    result = train_family("mlp", "pico", str(tmp_path / "d.npz"), tmp_path / "out", {"epochs": 1})
    assert result["card"]["classes"] == ["0", "1", "2"]
    assert load_checkpoint(tmp_path / "out").run({"x": x[:2]})[0].shape == (2, 3)


def test_data_that_a_family_cannot_take(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((60, 6), np.float32), labels=np.arange(60) % 3)
    with pytest.raises(RecipeError, match=r"family 'cnn' takes one picture .+, got x: float32 batchx6; choose another"):
        train_family("cnn", "pico", str(tmp_path / "d.npz"), tmp_path / "out", {"epochs": 1})


@pytest.mark.parametrize(
    ("family", "size", "options", "error", "message"),
    [
        ("cn", "pico", {}, RecipeError, "unknown family 'cn'; did you mean 'cnn'?"),
        ("cnn", "pic", {}, RecipeError, "unknown size 'pic' of family 'cnn'; did you mean 'pico'?"),
        ("cnn", "pico", {"epochs": 0}, TrainingError, "epochs: Input should be greater than 0, got 0"),
        ("cnn", "pico", {"epoch": 1}, TrainingError, "unknown training option 'epoch'; did you mean 'epochs'?"),
        ("cnn", "pico", {"augment": {"flop": 1}}, TrainingError, "unknown key 'flop' of augment; did you mean 'flip'?"),
        ("cnn", "pico", {"adversarial": {"step": 1}}, TrainingError, "unknown key 'step' of adversarial; did you mean"),
        ("cnn", "pico", {"seed": -1}, TrainingError, "seed: Input should be greater than or equal to 0, got -1"),
        ("cnn", "pico", {"learning_rate": float("nan")}, TrainingError, "learning_rate: Input should be a finite"),
    ],
)
def test_requests_that_make_no_sense(
    tmp_path: Path, family: str, size: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        train_family(family, size, "digits", tmp_path / "out", options)
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "out").exists()


def test_a_directory_is_no_family(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"a recipe trains a model on that is there already: `model: \{hf: /"):
        train_family(str(tmp_path), "pico", "digits", tmp_path / "out", {})
