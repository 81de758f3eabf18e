"""Distillation as a step of a recipe: chains, the base as teacher in fine-tuning, and what cannot be said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.compress import TECHNIQUES
from edgekit.compress.distill.spots import blocks_of
from edgekit.data.digits import fingerprint, load
from edgekit.errors import CompressError, RecipeError
from edgekit.pipeline import run_recipe
from edgekit.pipeline.torch_step import TorchWork
from edgekit.recipe import Recipe, load_recipe
from edgekit.tasks import find_metric
from edgekit.training.checkpoint import load_checkpoint
from edgekit.training.config import TrainConfig
from tests.conftest import Answer

RECIPE = """\
name: taught
model: {{checkpoint: {checkpoint}}}
data: digits
train: {{epochs: 1, batch_size: 64, learning_rate: 1e-3}}
variants:
  student:
    - {{distill: logits, family: mlp, size: pico, teacher: cnn.onnx, train: {{epochs: 4, learning_rate: 1e-2}}}}
    - {{quantize: static}}
bench: {{min_seconds: 0.02, threads: 1}}
report: {{pictures: false}}
"""


@pytest.fixture
def recipe(pico_cnn: Path, pico_onnx: Path, tmp_path: Path) -> Path:
    (tmp_path / "cnn.onnx").write_bytes(pico_onnx.read_bytes())
    path = tmp_path / "taught.yaml"
    path.write_text(RECIPE.format(checkpoint=pico_cnn))
    return path


def test_a_recipe_with_students(recipe: Path, tmp_path: Path) -> None:
    report = run_recipe(load_recipe(recipe), tmp_path / "out")
    models = {m.name: m for m in report.models}
    first, second = models["student"].steps
    assert first["technique"] == "distill: logits"
    assert first["details"]["student"] == "mlp/pico"
    assert first["details"]["macs"]["ratio"] > 10
    assert [link["name"] for link in first["details"]["links"]] == ["distilled"]
    assert first["metric"]["test"]["value"] > 0.75
    assert second["technique"] == "quantize: static"
    again = run_recipe(load_recipe(recipe), tmp_path / "out")
    assert all(step.reused for step in again.steps)
    (tmp_path / "cnn.onnx").write_bytes((tmp_path / "out" / "models" / "base.onnx").read_bytes())
    third = run_recipe(load_recipe(recipe), tmp_path / "out")
    done = {s.name for s in third.steps if not s.reused}
    assert "student.0" in done


def test_a_pruned_copy_learns_from_the_base(pico_cnn: Path, tmp_path: Path) -> None:
    """Prune, with the base as teacher in fine-tuning; then distil from it into what is left."""
    data = load()
    metric = find_metric("top1")

    def work(checkpoint: Path, name: str) -> TorchWork:
        train, place = TrainConfig(epochs=1, batch_size=64, learning_rate=1e-3), tmp_path / name
        return TorchWork(checkpoint, pico_cnn, place / "checkpoint", lambda: data, fingerprint(), metric, train, place)

    taught = {
        "prune": "channels",
        "ratio": 0.3,
        "round_to": 2,
        "finetune": {"epochs": 1, "distill": {"temperature": 2}},
    }
    technique = TECHNIQUES["prune: channels"]
    pruned = technique.apply(technique.config.model_validate(taught), work(pico_cnn, "pruned").step())
    assert list(tmp_path.glob("pruned/teacher/*/answers.json"))
    technique = TECHNIQUES["distill: features"]
    step = work(tmp_path / "pruned" / "checkpoint", "learnt").step()
    config = technique.config.model_validate({"distill": "features", "teacher": ["base"], "train": {"epochs": 2}})
    result = technique.apply(config, step)
    assert result.details["parameters"]["ratio"] == 1.0
    assert result.details["links"][0]["validation"] > pruned.details["links"][0]["validation"]
    assert load_checkpoint(tmp_path / "learnt" / "checkpoint").card.edits == step.model.card.edits != {}
    itself = technique.config.model_validate({"distill": "features"})
    with pytest.raises(CompressError, match=r"^the student is the base itself, and so is the teacher; say what is to"):
        technique.apply(itself, work(pico_cnn, "itself").step())


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("[{distill: logits}]", "variants.a[0]: `distill: logits`: the student is the base itself, and so is the"),
        ("[{distill: logits, size: huge}]", "unknown size 'huge' of family 'cnn'; allowed:"),
        (
            "[{prune: channels, ratio: 0.5}, {distill: logits, size: pico}]",
            "variants.a[1]: `distill: logits`: `size` and `family` build a new student, and what `prune: channels` did",
        ),
        ("[{distill: logits, family: cn}]", "variants.a[0].family: unknown family 'cn'; did you mean 'cnn'?"),
        ("[{distill: logit, size: pico}]", "unknown technique 'distill: logit'; did you mean 'distill: logits'?"),
        ("[{distill: logits, size: pico, angle: 1.0}]", "angle: is for relation, and this is logits; leave it out"),
        (
            "[{distill: outputs, size: pico}]",
            "`distill: outputs`: outputs is for regression, reconstruction, generation,",
        ),
        ("[{distill: logits, size: pico, layers: [0]}]", "layers: takes blocks of the base, and `family` or `size`"),
        ("[{distill: logits, layers: [2, 1]}]", "layers: must rise, such as [0, 2, 5], got [2, 1]"),
        (
            "[{distill: logits, size: pico, weight: 1.5}]",
            "variants.a[0].weight: input should be less than or equal to 1",
        ),
        (
            "[{distill: logits, size: pico, temperature: 0}]",
            "variants.a[0].temperature: input should be greater than 0",
        ),
        ("[{distill: logits, size: pico, temprature: 1}]", "variants.a[0].temprature: unknown key; did you mean 'temp"),
        ("[{distill: logits, size: pico, also: [logits]}]", "also: 'logits' is the method itself; leave it out there"),
        (
            "[{distill: logits, size: pico, also: [featurs]}]",
            "variants.a[0].also: unknown loss 'featurs'; did you mean",
        ),
        (
            "[{distill: logits, size: pico, also: {relation: -1}}]",
            "variants.a[0].also.relation: input should be greater",
        ),
        ("[{distill: logits, size: pico, teacher: []}]", "teacher: an empty list; name at least one"),
        ("[{quantize: static}, {distill: logits, size: pico}]", "`distill: logits` trains the torch model and cannot"),
        ("[{distill: logits, size: pico, train: {epoch: 3}}]", "variants.a[0].train.epoch: unknown key; did you mean"),
    ],
)
def test_what_a_step_cannot_say(tmp_path: Path, steps: str, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"name: r\nfamily: cnn\nsize: pico\ndata: digits\nvariants:\n  a: {steps}\n")
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    assert message in str(error.value)
    assert str(error.value).startswith(f"{path}:6: ")
    assert len(str(error.value).splitlines()) == 1


def test_a_base_of_no_family_has_no_size(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: r\nmodel: {hf: x}\ndata: digits\nvariants:\n  a: [{distill: logits, size: pico}]\n")
    with pytest.raises(
        RecipeError, match="the base is of no family of edgekit; give `family` beside `size`, or `layers`"
    ):
        load_recipe(path)


def test_teachers_are_looked_for_beside_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    steps = "[{distill: logits, size: pico, teacher: [base, x.onnx]}, {distill: logits, size: pico, teacher: y}]"
    path.write_text(f"name: r\nfamily: cnn\nsize: pico\ndata: digits\nvariants:\n  a: {steps}\n")
    first, second = load_recipe(path).variants["a"]
    assert first.teacher == ["base", str(tmp_path / "x.onnx")]
    assert second.teacher == str(tmp_path / "y")


def test_what_the_student_s_family_refuses_is_refused_after_it(tmp_path: Path) -> None:
    said = {"name": "r", "family": "mlp", "size": "pico", "data": "digits"}
    steps = [{"distill": "logits", "family": "cnn", "size": "pico"}, {"quantize": "dynamic"}]
    with pytest.raises(ValueError, match=r"variants.a\[1\]: family 'cnn' refuses `quantize: dynamic`"):
        Recipe.model_validate({**said, "variants": {"a": steps}})
    Recipe.model_validate({**said, "family": "cnn", "variants": {"a": [{**steps[0], "family": "mlp"}, steps[1]]}})


def test_the_command(cli: Callable[..., Answer], pico_cnn: Path, pico_onnx: Path, tmp_path: Path) -> None:
    asked = ("--student", "mlp:pico", "--data", "digits", "--epochs", 3, "--learning-rate", 0.01, "--batch-size", 64)
    answer = cli("distill", "--teacher", pico_cnn, *asked, "--out", tmp_path / "a", "--temperature", 2, "--json")
    assert answer.code == 0, answer.err
    told = answer.json()
    assert told["teachers"] == [str(pico_cnn)]
    assert told["labels"] == "data"
    assert told["card"]["family"] == "mlp"
    assert told["validation"]["value"] > 0.7
    both = ("--teacher", pico_onnx, "--teacher", pico_cnn)
    answer = cli("distill", *both, *asked, "--out", tmp_path / "b", "--set", "train.augment.flip=true", "-q")
    assert answer.code == 0, answer.err
    assert answer.out.startswith(f"{tmp_path / 'b'}: top1 0.")
    assert answer.out.strip().endswith("on validation data, against labels")
    assert json.loads((tmp_path / "b" / "config.json").read_text())["train"]["augment"]["flip"] is True


def test_blocks_of_a_teacher_by_the_command(cli: Callable[..., Answer], tmp_path: Path) -> None:
    short = ("--data", "digits", "--epochs", 1, "--batch-size", 128)
    assert cli("train", "vit", "--size", "pico", *short, "--out", tmp_path / "vit", "-q").code == 0
    asked = ("--teacher", tmp_path / "vit", "--layers", "1", "--also", "transformer")
    answer = cli("distill", *asked, *short, "--out", tmp_path / "one", "--json")
    assert answer.code == 0, answer.err
    assert answer.json()["card"]["edits"]["size"] == {"depth": 1}
    assert len(blocks_of(load_checkpoint(tmp_path / "one").module) or ()) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--student", "mlp:pico", "--method", "logit"),
            "unknown method of distillation 'logit'; did you mean 'logits'?",
        ),
        (("--student", "mpl:pico"), "unknown family 'mpl'; did you mean 'mlp'?"),
        (("--student", "mlp:piko"), "unknown size 'piko' of family 'mlp'; did you mean 'pico'?"),
        ((), "say what is to learn: --student FAMILY:SIZE, or --layers 0,2,5 of the teacher"),
        (("--student", "mlp:pico", "--also", "feature"), "unknown loss 'feature'; did you mean 'features'?"),
        (
            ("--student", "mlp:pico", "--set", "temprature=2"),
            "unknown option 'temprature' of distill; did you mean 'temp",
        ),
        (
            ("--student", "mlp:pico", "--set", "train.epoch=2"),
            "unknown training option 'epoch'; did you mean 'epochs'?",
        ),
        (("--layers", "0"), "layers: cnn has no blocks with attention to choose from"),
        (("--student", "mlp:pico", "--weight", "0.5", "--method", "outputs"), "`distill: outputs` is for regression,"),
    ],
)
def test_flags_that_make_no_sense(
    cli: Callable[..., Answer], pico_cnn: Path, tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    answer = cli("distill", "--teacher", pico_cnn, "--data", "digits", "--out", tmp_path / "out", *flags)
    assert answer.code == 1
    assert answer.err.startswith("error: ")
    assert message in answer.err
    assert len(answer.err.strip().splitlines()) == 1


def test_data_without_labels(cli: Callable[..., Answer], pico_onnx: Path, dense_onnx: Path, tmp_path: Path) -> None:
    image = np.concatenate([s.arrays["image"] for s in load().splits.values()])
    np.savez(tmp_path / "digits.npz", image=image)
    asked = ("--student", "mlp:pico", "--data", tmp_path / "digits.npz", "--epochs", 4, "--set", "train.batch_size=64")
    answer = cli("distill", "--teacher", pico_onnx, *asked, "--out", tmp_path / "a", "--learning-rate", 0.01, "--json")
    assert answer.code == 0, answer.err
    told = answer.json()
    assert told["labels"] == "teacher"
    assert told["card"]["classes"] == [str(d) for d in range(10)]
    assert told["validation"]["value"] > 0.75
    answer = cli("distill", "--teacher", dense_onnx, *asked, "--out", tmp_path / "b")
    assert answer.code == 1
    assert "has no labels, and the teacher does not say what its classes are" in answer.err
