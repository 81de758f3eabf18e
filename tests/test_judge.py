from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.data import load_split
from edgekit.data.digits import PREPROCESSING
from edgekit.errors import DataError
from edgekit.evaluate import evaluate
from edgekit.judge import bind_judge, config_for, convert, judge_of, judged_metric
from edgekit.tasks import find_metric
from edgekit.tasks.generation import frechet_distance


@pytest.fixture
def pictures() -> np.ndarray[Any, Any]:
    """Real digits, pixels in -1..1."""
    return load_split("digits", "test", task="generation").arrays["image"]


def test_pixels_are_converted_between_preprocessings() -> None:
    stored = np.arange(64, dtype=np.float32).reshape(1, 8, 8) / 4
    theirs = PREPROCESSING.for_task("generation")
    np.testing.assert_allclose(convert(theirs(stored), theirs, PREPROCESSING), PREPROCESSING(stored), atol=1e-5)


def test_the_judge_knows_the_digits(judges: Path) -> None:
    value = evaluate(judge_of("digits").model, load_split("digits", "test"), find_metric("top1"))
    assert value.value > 0.9


def test_features_tell_real_from_noise(judges: Path, pictures: np.ndarray[Any, Any]) -> None:
    judge = judge_of("digits")
    noise = np.random.default_rng(0).uniform(-1, 1, pictures.shape).astype(np.float32)
    half = len(pictures) // 2
    real, nonsense = judge.compare(pictures[:half], pictures[half:]), judge.compare(noise, pictures)
    assert real.shape == (half, 2 * real.shape[1] // 2)
    assert real.dtype == np.float32
    assert frechet_distance(nonsense) > 10 * frechet_distance(real)


def test_features_do_not_depend_on_the_batch(judges: Path, pictures: np.ndarray[Any, Any]) -> None:
    judge = judge_of("digits")
    parts = np.concatenate([judge.features(pictures[:7]), judge.features(pictures[7:20])])
    np.testing.assert_allclose(judge.features(pictures[:20]), parts, atol=1e-4)


def test_features_are_in_full_precision_also_under_autocast(judges: Path, pictures: np.ndarray[Any, Any]) -> None:
    import torch

    judge = judge_of("digits")
    with torch.autocast("cpu", torch.bfloat16):
        found = judge.features(pictures[:5])
    np.testing.assert_array_equal(found, judge.features(pictures[:5]))


def test_a_judge_is_trained_once(judges: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import edgekit.training.fit as training

    judge_of.cache_clear()
    monkeypatch.setattr(training, "_run_trainer", lambda *_: pytest.fail("it trained again"))
    assert judge_of("digits").features(np.zeros((1, 1, 8, 8), np.float32)).shape[0] == 1


def test_small_data_is_seen_more_often() -> None:
    assert config_for(52_000).epochs == 4
    assert config_for(1000).epochs == 43


@pytest.mark.parametrize("data", ["mine.npz", "diabetes"])
def test_data_that_has_no_judge(data: str) -> None:
    with pytest.raises(DataError) as error:
        bind_judge(find_metric("frechet"), data)
    assert str(error.value) == (
        f"metric 'frechet' needs a judge, a classifier of a named data set, and {data} has none; "
        "name one with --judge: digits, fashion-mnist"
    )


def test_metrics_that_need_no_judge_are_left_alone() -> None:
    assert bind_judge(find_metric("top1"), "mine.npz") is find_metric("top1")
    assert judged_metric("mlp", "digits") is None


def test_pictures_that_the_judge_cannot_look_at(judges: Path, pictures: np.ndarray[Any, Any]) -> None:
    judge = judge_of("digits")
    with pytest.raises(DataError, match=r"the judge of digits needs pictures of shape \(n, 1x8x8\), got \(2, 3\) as"):
        judge.compare(np.zeros((2, 3), np.float32), pictures[:2])
    with pytest.raises(DataError, match=r"real pictures.*must have pixels in -1\.\.1, got 0\.\.255; scale them"):
        judge.compare(pictures[:1], np.linspace(0, 255, 64, dtype=np.float32).reshape(1, 1, 8, 8))


@pytest.fixture(scope="session")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained pico generator of digits, exported."""
    import torch

    from edgekit.data import find_source
    from edgekit.export.torch_onnx import export_onnx
    from edgekit.training.checkpoint import TrainedModel
    from edgekit.training.fit import card_for

    torch.manual_seed(0)
    card = card_for("gan", "pico", find_source("digits").load(None, "generation"))
    path = tmp_path_factory.mktemp("generator") / "g.onnx"
    export_onnx(TrainedModel(card.build().eval(), card), path)
    return path


def test_eval_of_a_generator(judges: Path, generator: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    """On a named data set, the noise drawn by seed; on an .npz with z and real pictures, by a judge that is named."""
    answer = cli("eval", generator, "--data", "digits", "--json")
    assert answer.code == 0, answer.err
    metric = json.loads(answer.out)["metric"]
    assert metric["name"] == "frechet"
    assert metric["n"] == 360
    split = load_split("digits", "test", task="generation")
    z = np.random.default_rng(1).standard_normal((360, 16)).astype(np.float32)
    np.savez(tmp_path / "d.npz", z=z, labels=split.arrays["image"])
    missing = cli("eval", generator, "--data", tmp_path / "d.npz")
    assert missing.code == 1
    assert missing.err.startswith("error: metric 'frechet' needs a judge")
    named = cli("eval", generator, "--data", tmp_path / "d.npz", "--judge", "digits", "--metric", "frechet", "--json")
    assert named.code == 0, named.err
    assert json.loads(named.out)["metric"]["value"] == pytest.approx(metric["value"], rel=0.1)
