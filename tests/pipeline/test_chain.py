"""Variants that begin on the torch model: links, what is reused, and an interruption."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgekit import progress
from edgekit.evaluate import evaluate
from edgekit.ort import Session
from edgekit.pipeline import Report, run_recipe
from edgekit.recipe import load_recipe
from edgekit.report.chain import chain_lines, chain_notes
from edgekit.tasks import find_metric
from edgekit.training.module import FitModule

RECIPE = """\
name: chain
family: cnn
size: pico
data: digits
train: {epochs: 3, batch_size: 64, learning_rate: 1e-2}
variants:
  half-int8:
    - {prune: channels, macs: 2, round_to: 2, finetune: {epochs: 2, learning_rate: 5e-3}}
    - {quantize: static, calibration: {samples: 64, method: minmax}}
  half:
    - {prune: channels, macs: 2, round_to: 2, finetune: {epochs: 2, learning_rate: 5e-3}}
bench: {min_seconds: 0.05, threads: 1}
report: {pictures: false}
"""


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """The recipe's path, and the report of a run beside it."""
    place = tmp_path_factory.mktemp("chain")
    recipe = place / "chain.yaml"
    recipe.write_text(RECIPE)
    progress.set_quiet(True)
    return recipe, run_recipe(load_recipe(recipe), place / "out")


def test_accuracy_after_each_link_is_that_of_its_file(chained: tuple[Path, Report]) -> None:
    recipe, report = chained
    out = recipe.parent / "out"
    model = report.models[1]
    pruned, quantised = model.steps
    assert [s["technique"] for s in model.steps] == ["prune: channels", "quantize: static"]
    assert pruned["details"]["macs"]["ratio"] >= 2
    assert pruned["details"]["links"][-1]["validation"] == pytest.approx(pruned["validation"]["value"])
    assert pruned["metric"]["validation"]["value"] == pytest.approx(pruned["validation"]["value"])
    from edgekit.data import load_split

    between = evaluate(Session(out / "work" / "half-int8.0.onnx"), load_split("digits", "test"), find_metric("top1"))
    assert pruned["metric"]["test"]["value"] == between.value
    assert quantised["metric"]["test"]["value"] == model.metric["test"]["value"]
    assert quantised["size_bytes"] == model.size_bytes < pruned["size_bytes"] < report.models[0].size_bytes
    assert json.loads((out / "results.json").read_text())["models"][1]["steps"] == json.loads(json.dumps(model.steps))


def test_the_report_shows_the_chain(chained: tuple[Path, Report]) -> None:
    recipe, report = chained
    lines = chain_lines(report.as_dict())
    assert [line[:2] for line in lines] == [
        ("base", ""),
        ("half-int8", "prune: channels"),
        ("half-int8", "… fine-tuned"),
        ("half-int8", "quantize: static"),
        ("half", "prune: channels"),
        ("half", "… fine-tuned"),
    ]
    assert lines[0][-1] == "96.9 k"
    assert lines[1][3:] == ("", "", "", "")
    for name in ("report.md", "report.html"):
        text = (recipe.parent / "out" / name).read_text()
        assert "Link by link" in text
        assert "… fine-tuned" in text


def test_variants_that_begin_alike_train_once(chained: tuple[Path, Report]) -> None:
    recipe, report = chained
    assert [s.name for s in report.steps if "half" in s.name and s.name.endswith(".0")] == ["half-int8.0"] * 2
    assert [s.reused for s in report.steps if s.name == "half-int8.0"] == [False, True]
    assert not (recipe.parent / "out" / "work" / "half.0").exists()
    chain, alone = report.models[1], report.models[2]
    assert chain.steps[0]["metric"]["test"]["value"] == alone.metric["test"]["value"]


def test_finished_links_are_reused_and_later_ones_done_anew(
    chained: tuple[Path, Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, _ = chained
    out = Path(shutil.copytree(recipe.parent / "out", tmp_path / "out"))

    def ran(*settings: str) -> list[str]:
        return [s.name for s in run_recipe(load_recipe(recipe, settings), out).steps if not s.reused]

    assert ran() == []
    monkeypatch.setattr(FitModule, "training_step", lambda *args: pytest.fail("it trained again"))
    assert ran("variants.half-int8.1.calibration.samples=32") == ["half-int8.1", "half-int8.metric", "bench", "report"]
    same = "{prune: channels, macs: 2, round_to: 2, finetune: {epochs: 2, learning_rate: 5e-3}}"
    assert "half.0" not in ran(f"variants.half=[{same}]")  # another variant that begins alike


def test_an_interrupted_fine_tuning_goes_on(
    chained: tuple[Path, Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, report = chained
    out = Path(shutil.copytree(recipe.parent / "out", tmp_path / "out"))
    shutil.rmtree(out / "work" / "half-int8.0")
    (out / "steps" / "half-int8.0.json").unlink()
    seen: list[int] = []
    stops: list[int] = []
    step = FitModule.training_step

    def stopping(self: Any, batch: Any, index: int) -> Any:
        seen.append(self.global_step)
        if self.current_epoch == 1 and not stops:
            stops.append(self.global_step)
            raise KeyboardInterrupt
        return step(self, batch, index)

    monkeypatch.setattr(FitModule, "training_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(load_recipe(recipe), out)
    first = len(seen)
    again = run_recipe(load_recipe(recipe), out)
    assert seen[first] == stops[0] > 0  # it went on where it stopped
    assert [m.sha256 for m in again.models] == [m.sha256 for m in report.models]


def test_what_was_removed_of_a_file_is_said_too() -> None:
    steps = [
        {"technique": "prune: onnx-channels", "reason": "1.50x fewer", "details": {"macs": {"before": 3, "after": 2}}},
        {"technique": "quantize: static", "reason": "in int8", "details": {}},
    ]
    assert chain_notes({"models": [{"name": "a", "steps": steps}]}) == ["a: prune: onnx-channels: 1.50x fewer"]
