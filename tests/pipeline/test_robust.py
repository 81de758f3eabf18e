from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.data import load_npz, load_split
from edgekit.errors import RecipeError
from edgekit.evaluate import evaluate
from edgekit.ort import Session
from edgekit.pipeline import Report, run_recipe
from edgekit.recipe import load_recipe
from edgekit.report.html import html
from edgekit.report.robustness import CAUTION, robust_table
from edgekit.report.text import markdown
from edgekit.tasks import find_metric
from edgekit.training.attacks import attacked
from edgekit.training.checkpoint import load_checkpoint
from edgekit.training.config import AttackConfig

ATTACK = "robust={attack: pgd, epsilon: 0.1, steps: 5, samples: 200}"
TWO_STEPS = "variants={two: [{quantize: weights}, {quantize: static, calibration: {samples: 32, method: minmax}}]}"


@pytest.fixture(scope="module")
def judged(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """The small recipe, with an attack."""
    out = Path(shutil.copytree(finished.out, tmp_path_factory.mktemp("robust") / "out"))
    return out, run_recipe(load_recipe(finished.recipe, [ATTACK]), out)


def test_every_stage_is_judged_on_the_same_examples(judged: tuple[Path, Report]) -> None:
    out, report = judged
    assert report.robust is not None
    assert report.robust["attack"] == {
        "attack": "pgd", "epsilon": 0.1, "steps": 5, "step_size": None, "samples": 200,
    }  # fmt: skip
    assert report.robust["samples"] == 200
    stages = report.robust["stages"]
    assert [(s["model"], s["step"]) for s in stages] == [
        ("base", "export"),
        ("int8", "quantize: static"),
        ("stored", "quantize: weights"),
    ]
    examples, split = load_npz(out / "work" / "adversarial.npz"), load_split("digits", "test").take(200)
    for stage in stages:
        session = Session(out / "models" / f"{stage['model']}.onnx")
        assert stage["clean"] == evaluate(session, split, find_metric("top1")).as_dict()
        assert stage["attacked"] == evaluate(session, examples, find_metric("top1")).as_dict()
        assert stage["attacked"]["value"] < stage["clean"]["value"] - 0.1
    base = stages[0]
    for stage in stages[1:]:
        assert stage["drop"]["value"] == pytest.approx(base["attacked"]["value"] - stage["attacked"]["value"])
        assert stage["drop"]["ci95"][0] <= stage["drop"]["value"] <= stage["drop"]["ci95"][1]


def test_every_step_of_a_variant_is_judged(finished: Any, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished.out, tmp_path / "out"))
    report = run_recipe(load_recipe(finished.recipe, [ATTACK, TWO_STEPS]), out)
    assert report.robust is not None
    assert [(s["model"], s["step"]) for s in report.robust["stages"]] == [
        ("base", "export"),
        ("two", "quantize: weights"),
        ("two", "quantize: static"),
    ]
    session = Session(out / "work" / "two.0.onnx")
    examples = load_npz(out / "work" / "adversarial.npz")
    found = evaluate(session, examples, find_metric("top1")).as_dict()
    assert report.robust["stages"][1]["attacked"] == found


def test_the_examples_are_those_of_the_float_model(judged: tuple[Path, Report]) -> None:
    out, _ = judged
    examples, split = load_npz(out / "work" / "adversarial.npz"), load_split("digits", "test").take(200)
    found = attacked(load_checkpoint(out / "checkpoint"), split, AttackConfig(epsilon=0.1, steps=5))
    assert np.array_equal(found.arrays["image"], examples.arrays["image"])
    assert examples.labels is not None
    assert split.labels is not None
    assert examples.labels.tolist() == split.labels.tolist()


def test_reports_show_it(judged: tuple[Path, Report]) -> None:
    content = judged[1].as_dict()
    title = "top1 under attack (pgd, epsilon 0.1, 5 steps), on 200 test samples"
    text, page = markdown(content), html(content)
    stages = content["robust"]["stages"]
    row = f"| int8 | quantize: static | {100 * stages[1]['clean']['value']:.2f} % |"
    assert "## Robustness" in text
    assert title in text
    assert row in text
    assert CAUTION in text
    assert "<h2>Robustness</h2>" in page
    assert title in page
    assert "quantize: static" in page
    table = robust_table(content)
    assert table is not None
    assert table.row_count == 3


def test_reports_without_an_attack_say_nothing(finished: Any) -> None:
    content = finished.report.as_dict()
    assert content["robust"] is None
    assert "Robustness" not in markdown(content) + html(content)
    assert robust_table(content) is None


def test_a_second_run_does_nothing_and_another_attack_only_what_it_must(
    judged: tuple[Path, Report], finished: Any, rerun: Callable[..., list[str]], tmp_path: Path
) -> None:
    out = Path(shutil.copytree(judged[0], tmp_path / "out"))
    assert rerun(out, ATTACK) == []
    assert rerun(out, ATTACK, "robust.epsilon=0.05") == ["adversarial", "robust", "report"]


def test_what_cannot_be_attacked_is_refused_with_its_line(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: r\nfamily: mlp\ndata: diabetes\nrobust: {epsilon: 0.1}\n")
    with pytest.raises(RecipeError) as error:
        load_recipe(recipe)
    assert str(error.value) == f"{recipe}:4: robust: attacks are for classification, and this is regression; " + (
        "leave `robust` out"
    )
