"""Training in quantised form, from a recipe's step to the file that runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from pydantic import ValidationError

from edgekit.compress import TECHNIQUES, misplaced
from edgekit.compress.quantize.aware import AwareConfig, quantize_aware, require_statistics
from edgekit.compress.quantize.static import CalibrationConfig, StaticConfig, quantize_static
from edgekit.compress.technique import OnnxStep, TorchStep
from edgekit.data import DataSet, resolve_source
from edgekit.errors import CompressError, ModelError
from edgekit.evaluate import evaluate
from edgekit.export.torch_onnx import export_onnx
from edgekit.load import open_checkpoint
from edgekit.load.trained_graph import GRAPH
from edgekit.ort import Session
from edgekit.tasks import find_metric
from edgekit.training.checkpoint import TrainedModel
from edgekit.training.config import TrainConfig
from edgekit.training.fit import card_for, fit
from tests.conftest import Answer

TOP1 = find_metric("top1")
TRAIN = TrainConfig(epochs=6, batch_size=64, ema=0.9)


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return resolve_source("digits").load(None, "classification")


@pytest.fixture(scope="module")
def base(digits: DataSet, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    card = card_for("cnn", "pico", digits)
    place = tmp_path_factory.mktemp("base")
    fit(card, lambda: digits, TRAIN, place, fingerprint="digits")
    return open_checkpoint(place)


@pytest.fixture
def step(base: TrainedModel, digits: DataSet, tmp_path: Path) -> TorchStep:
    """A step on the base, as a run of a recipe makes it."""
    return TorchStep(
        model=base,
        out=tmp_path / "checkpoint",
        load_data=lambda: digits,
        fingerprint="digits",
        metric=TOP1,
        validate=lambda model: evaluate(model, digits.splits["validation"], TOP1).value,
        base=lambda: base,
        open=open_checkpoint,
        train=TRAIN,
        work=tmp_path,
        speedup=lambda model: 1.0,
    )


def on_test(model: Any, data: DataSet) -> float:
    return evaluate(model, data.splits["test"], TOP1).value


def test_it_trains_writes_a_checkpoint_and_exports_what_it_learnt(step: TorchStep, digits: DataSet) -> None:
    result = quantize_aware(AwareConfig(epochs=2, learning_rate=2e-3), step)
    assert result.changed
    assert result.reason.endswith("nodes run in int8, trained so for 2 epochs with learnt steps")
    assert [link["name"] for link in result.details["links"]] == ["quantised", "trained in int8"]
    assert any(moved != 1 for moved in result.details["steps"].values())
    model = open_checkpoint(step.out)
    out = step.work / "aware.onnx"
    said = export_onnx(model, out)
    assert said.exporter == "graph"
    ops = {n.op_type for n in onnx.load(out).graph.node} - {"Relu", "Pad"}  # an entry with few weights stays in float
    assert ops == {"QuantizeLinear", "DequantizeLinear", "Conv", "Gemm", "GlobalAveragePool", "Reshape"}
    images = digits.splits["test"].arrays
    ours, theirs = model.run(images)[0], Session(out).run(images)[0]
    assert np.abs(ours - theirs).max() <= (ours.max() - ours.min()) / 255
    assert on_test(Session(out), digits) == pytest.approx(on_test(model, digits), abs=0.003)
    assert on_test(Session(out), digits) >= on_test(step.model, digits) - 0.01


def test_its_size_is_that_of_static_quantisation(step: TorchStep, digits: DataSet) -> None:
    quantize_aware(AwareConfig(epochs=1), step)
    files = [step.work / f"{name}.onnx" for name in ("float", "static", "aware")]
    export_onnx(step.model, files[0])
    quantize_static(StaticConfig(), OnnxStep(files[0], files[1], digits.splits["calibration"]))
    export_onnx(open_checkpoint(step.out), files[2])
    sizes = [f.stat().st_size for f in files]
    assert sizes[2] < sizes[0] / 2
    assert sizes[2] == pytest.approx(sizes[1], rel=0.05)


def test_a_model_that_static_quantisation_ruins_is_mended(step: TorchStep, digits: DataSet) -> None:
    narrow = CalibrationConfig(method="percentile", percentile=80)
    result = quantize_aware(AwareConfig(epochs=3, learning_rate=1e-2, calibration=narrow), step)
    before, after = (link["validation"] for link in result.details["links"])
    assert before < 0.6
    assert after > 0.65


def test_training_that_makes_it_worse_is_not_kept(step: TorchStep) -> None:
    result = quantize_aware(AwareConfig(epochs=1, learning_rate=0.5), step)
    names = [link["name"] for link in result.details["links"]]
    assert names == ["quantised", "trained in int8", "kept as it was quantised"]
    assert "made it no better on validation data" in result.reason
    assert set(result.details["steps"].values()) == {1.0}
    assert step.validate(open_checkpoint(step.out)) == result.details["links"][0]["validation"]


class StoppedError(Exception):
    """Something pulled the plug."""


def test_an_interrupted_training_goes_on_with_its_weights_and_steps(
    step: TorchStep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgekit.training.module import FitModule

    config = AwareConfig(epochs=3, learning_rate=2e-3)
    quantize_aware(config, step)
    wanted = open_checkpoint(step.out).module.state_dict()
    again = replace(step, out=tmp_path / "again" / "checkpoint", work=tmp_path / "again")
    original = FitModule.training_step

    def failing(self: FitModule, batch: Any, index: int) -> Any:
        if self.current_epoch == 2:
            raise StoppedError
        return original(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(FitModule, "training_step", failing)
        with pytest.raises(StoppedError):
            quantize_aware(config, again)
    epochs = []

    def noted(self: FitModule, batch: Any, index: int) -> Any:
        epochs.append(self.current_epoch)
        return original(self, batch, index)

    monkeypatch.setattr(FitModule, "training_step", noted)
    quantize_aware(config, again)
    assert set(epochs) == {2}
    found = open_checkpoint(again.out).module.state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_it_learns_from_the_float_base_too(step: TorchStep) -> None:
    quantize_aware(AwareConfig(epochs=1, learning_rate=2e-3), step)
    alone = open_checkpoint(step.out).module.state_dict()
    quantize_aware(AwareConfig(epochs=1, learning_rate=2e-3, distill=True), step)
    taught = open_checkpoint(step.out).module.state_dict()
    assert alone.keys() == taught.keys()
    assert any(not torch.equal(alone[name], value) for name, value in taught.items())


def test_untrained_normalisation_is_refused(step: TorchStep) -> None:
    fresh = TrainedModel(step.model.card.build().eval(), step.model.card)
    with pytest.raises(CompressError, match="batch normalisation '1' has no statistics: the model was not trained"):
        quantize_aware(AwareConfig(), replace(step, model=fresh))
    require_statistics(step.model.module)


def test_nothing_to_quantise(step: TorchStep, tmp_path: Path) -> None:
    class Sum(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(10))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.flatten(1)[:, :10] * self.weight

    card = replace(step.model.card, architecture={"builder": "net:Sum"})
    result = quantize_aware(AwareConfig(), replace(step, model=TrainedModel(Sum().eval(), card)))
    assert not result.changed
    assert result.reason.startswith("no Conv, Gemm or MatMul with a float32 weight can run in int8")
    assert (step.out / "model.safetensors").is_file()


def test_calibration_data_that_is_not_finite(step: TorchStep, digits: DataSet) -> None:
    calibration = digits.splits["calibration"]
    arrays = {name: np.full_like(value, np.nan) for name, value in calibration.arrays.items()}
    broken = replace(digits, splits={**digits.splits, "calibration": replace(calibration, arrays=arrays)})
    with pytest.raises((CompressError, ModelError, Exception), match=r"finite|NaN"):
        quantize_aware(AwareConfig(), replace(step, load_data=lambda: broken))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"learning_rate": 0.0}, "greater than 0"),
        ({"learning_rate": float("inf")}, "finite"),
        ({"learning_rate": float("nan")}, "finite|greater"),
        ({"epochs": 0}, "greater than 0"),
        ({"epochs": 101}, "less than or equal to 100"),
        ({"epoch": 1}, "Extra inputs"),
        ({"activations": "int4"}, "uint8"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        AwareConfig(**options)


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_checkpoint_without_its_graph(step: TorchStep, damage: str) -> None:
    quantize_aware(AwareConfig(epochs=1), step)
    graph = step.out / GRAPH
    if damage == "missing":
        graph.unlink()
    else:
        graph.write_bytes(graph.read_bytes() + b" ")
    state = "is missing" if damage == "missing" else "was changed"
    with pytest.raises(ModelError, match=rf"graph.onnx {state}, and the checkpoint's weights are for it"):
        open_checkpoint(step.out)


RECIPE = """
name: t
family: {family}
size: pico
data: {data}
train: {{epochs: 1, batch_size: 64}}
variants:
  qat: [{steps}]
bench: {{providers: [cpu], batch: [1], min_seconds: 0.1}}
report: {{pictures: false}}
"""


@pytest.mark.parametrize(
    ("family", "data", "steps", "said"),
    [
        (
            "cnn",
            "digits",
            "{quantize: aware}, {quantize: static}",
            "`quantize: static` cannot follow `quantize: aware`",
        ),
        ("cnn", "digits", "{quantize: aware}, {quantize: dynamic}", "its weights and activations are int8 already"),
        ("cnn", "digits", "{quantize: aware}, {prune: channels, ratio: 0.5}", "cannot follow `quantize: aware`"),
        ("cnn", "digits", "{quantize: static}, {quantize: aware}", "trains the torch model and cannot follow"),
        ("lstm", "japanese-vowels", "{quantize: aware}", "refuses `quantize: aware`: ONNX Runtime has no static int8"),
        ("gan", "digits", "{quantize: aware}", "refuses `quantize: aware`: the exported generator is trained without"),
        ("cnn", "digits", "{quantize: aware, learning_rate: 0}", "learning_rate"),
    ],
)
def test_recipes_that_are_refused(
    cli: Callable[..., Answer], tmp_path: Path, family: str, data: str, steps: str, said: str
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(RECIPE.format(family=family, data=data, steps=steps))
    answer = cli("run", recipe, "--out", tmp_path / "out")
    assert answer.code == 1
    assert said in answer.err
    assert not (tmp_path / "out").exists()


def test_a_recipe_with_it_and_the_same_file_by_export(cli: Callable[..., Answer], tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        RECIPE.format(family="mlp", data="diabetes", steps="{quantize: aware, epochs: 1, distill: {method: outputs}}")
    )
    answer = cli("run", recipe, "--out", tmp_path / "out", "--json")
    assert answer.code == 0
    (step,) = next(m for m in answer.json()["models"] if m["name"] == "qat")["steps"]
    assert step["technique"] == "quantize: aware"
    again = tmp_path / "again.onnx"
    assert cli("export", tmp_path / "out/work/qat.0/checkpoint", "--out", again).code == 0
    assert again.read_bytes() == (tmp_path / "out/models/qat.onnx").read_bytes()
    assert cli("run", recipe, "--out", tmp_path / "out", "--json").code == 0


def test_what_stays_in_float_can_be_stored_in_fewer_bits() -> None:
    assert misplaced(["quantize: aware", "quantize: weights"]) == []
    assert [place for place, _ in misplaced(["quantize: aware", "quantize: weights", "quantize: int4"])] == [2]


def test_it_is_listed() -> None:
    assert TECHNIQUES["quantize: aware"].stage == "torch"
    assert json.dumps(AwareConfig().model_dump(mode="json"))
