from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit.errors import BusyError, OutputError
from edgekit.evaluate import evaluate
from edgekit.files import locked, sha256_of
from edgekit.ort import Session
from edgekit.pipeline import run_recipe
from edgekit.pipeline.results import choose_best
from edgekit.recipe import load_recipe
from edgekit.recipe.model import AcceptConfig
from edgekit.tasks import find_metric

Rerun = Callable[..., list[str]]
Tree = Callable[[Path], dict[str, str]]


@pytest.fixture
def results(finished: Any) -> dict[str, Any]:
    return dict(json.loads((finished.out / "results.json").read_text()))


def test_results_say_everything(results: dict[str, Any], finished: Any) -> None:
    assert results["schema_version"] == 1
    assert [m["name"] for m in results["models"]] == ["base", "int8", "stored"]
    assert results["recipe"]["train"]["weight_decay"] == 1e-2  # defaults are filled in
    assert results["training"]["validation"]["name"] == results["metric"] == "top1"
    assert [row["epoch"] for row in results["training"]["history"]] == [1, 2, 3, 4]
    assert results["export"]["parity"]["max_abs"] < 1e-4
    assert results["export"]["parity"]["batches"] == [1, 2, 7]
    assert results["machine"]["cores"] >= 1
    assert results == json.loads(json.dumps(finished.report.as_dict()))


def test_every_figure_of_a_model_is_that_of_its_file(results: dict[str, Any], finished: Any) -> None:
    from edgekit.data import load_split

    base_size = (finished.out / "models" / "base.onnx").stat().st_size
    for model in results["models"]:
        path = finished.out / model["path"]
        assert model["sha256"] == sha256_of(path)
        assert model["size_bytes"] == path.stat().st_size
        assert model["size_ratio"] == pytest.approx(base_size / path.stat().st_size)
        value = evaluate(Session(path), load_split("digits", "test"), find_metric("top1"))
        assert model["metric"]["test"]["value"] == value.value
        assert model["metric"]["test"]["n"] == 360
        assert model["metric"]["validation"]["n"] == 237
        assert {p.key for p in onnx.load(path).metadata_props} >= {"edgekit.family", "edgekit.classes"}


def test_quality_and_size_of_the_variants(results: dict[str, Any]) -> None:
    base, int8, stored = results["models"]
    assert base["metric"]["test"]["value"] > 0.9
    assert base["drop"]["test"] == {"value": 0.0, "ci95": [0.0, 0.0], "n": 360}
    for variant in (int8, stored):
        assert abs(variant["drop"]["test"]["value"]) <= 0.05
        low, high = variant["drop"]["test"]["ci95"]
        assert low <= variant["drop"]["test"]["value"] <= high
        assert variant["steps"][0]["technique"].startswith("quantize: ")
    assert int8["size_ratio"] > 1


def test_bench_rows_have_intervals_providers_and_what_they_ran_on(results: dict[str, Any]) -> None:
    for model in results["models"]:
        (row,) = model["bench"]
        assert row["provider"] == "cpu"
        assert row["providers_used"] == ["CPUExecutionProvider"]
        assert row["threads"] == 1
        assert row["n"] > 10
        assert 0 < row["latency_ms"]["p50"] <= row["latency_ms"]["p90"]
        assert row["session_ms"] > 0
        assert row["peak_rss_bytes"] > 10_000_000
        assert row["speedup"]["ratio"] > 0
    assert results["models"][0]["bench"][0]["speedup"]["ratio"] == pytest.approx(1)


def test_nothing_temporary_is_left(finished: Any) -> None:
    assert sorted(p.name for p in finished.out.iterdir() if p.name != ".edgekit.lock") == [
        "checkpoint",
        "models",
        "pictures",
        "report.html",
        "report.md",
        "results.json",
        "steps",
        "work",
    ]
    assert not list(finished.out.rglob("*.tmp"))


def test_a_second_run_does_nothing_also_elsewhere(copy: Path, rerun: Rerun, tree: Tree) -> None:
    before = tree(copy)
    assert rerun(copy) == []
    assert tree(copy) == before


def test_a_second_run_imports_no_torch_and_is_quick(copy: Path, finished: Any, process: Callable[..., Any]) -> None:
    code = (
        "import sys, time; from pathlib import Path; started = time.perf_counter()\n"
        "from edgekit.recipe import load_recipe; from edgekit.pipeline import run_recipe\n"
        "report = run_recipe(load_recipe(Path(sys.argv[1])), Path(sys.argv[2]))\n"
        "names = 'torch', 'lightning', 'transformers', 'sklearn', 'plotly', 'captum', 'PIL'\n"
        "heavy = [m for m in names if m in sys.modules]\n"
        "print(all(s.reused for s in report.steps), heavy, time.perf_counter() - started < 5)"
    )
    answer = process(finished.recipe, copy, code=code)
    assert answer.out.strip() == "True [] True", answer.err


@pytest.mark.parametrize(
    ("settings", "redone"),
    [
        (["accept.max_drop=0.2"], set()),
        (["name=other"], set()),
        (["variants.int8.0.calibration.samples=32"], {"int8.0", "int8.metric", "bench"}),
        (["export.opset=17"], {"export", "int8.0", "stored.0", "base.metric", "int8.metric", "stored.metric", "bench"}),
    ],
)
def test_a_change_redoes_what_depends_on_it(copy: Path, rerun: Rerun, settings: list[str], redone: set[str]) -> None:
    assert set(rerun(copy, *settings)) - {"report", "pictures"} == redone


def test_a_variant_more_leaves_the_others_alone(copy: Path, rerun: Rerun) -> None:
    done = rerun(copy, "variants.more=[{quantize: static, calibration: {samples: 32}}]")
    assert done == ["more.0", "more.metric", "bench", "pictures", "report"]


def test_a_variant_less_is_gone_from_the_report(copy: Path, finished: Any) -> None:
    recipe = load_recipe(
        finished.recipe, ["variants={int8: [{quantize: static, calibration: {samples: 64, method: minmax}}]}"]
    )
    assert [m.name for m in run_recipe(recipe, copy).models] == ["base", "int8"]
    assert "stored" not in (copy / "report.md").read_text()


@pytest.mark.parametrize(
    ("name", "redone"),
    [
        ("models/int8.onnx", ["int8.0"]),
        ("models/base.onnx", ["export"]),
        ("work/base.test.npy", ["base.metric"]),
        ("report.html", ["report"]),
        ("work/base.answers.npy", ["base.metric"]),
        ("pictures/arrays.npz", ["pictures"]),
        ("pictures/confusion-base.svg", ["report"]),
        ("steps/stored.metric.json", ["stored.metric"]),
        ("checkpoint/model.safetensors", ["train"]),
        ("checkpoint/config.json", ["train"]),
    ],
)
@pytest.mark.parametrize("damage", ["deleted", "edited"])
def test_what_was_deleted_or_edited_is_made_again(
    copy: Path, rerun: Rerun, tree: Tree, name: str, redone: list[str], damage: str
) -> None:
    before = tree(copy)
    if damage == "deleted":
        (copy / name).unlink()
    else:
        (copy / name).write_bytes(b"not this")
    assert rerun(copy) == redone
    after = tree(copy)
    own = {k for k in after if "/tensorboard/" not in k and not k.startswith("steps/")}
    assert own == {k for k in before if "/tensorboard/" not in k and not k.startswith("steps/")}
    assert {k for k in own if after[k] != before[k]} == set()


def test_records_of_another_version_are_not_used(copy: Path, rerun: Rerun) -> None:
    for name in ("stored.0", "base.metric"):
        (copy / "steps" / f"{name}.json").write_text('{"schema": "unknown"}')
    assert rerun(copy) == ["stored.0", "base.metric"]


def test_a_busy_directory(copy: Path, finished: Any, tree: Tree) -> None:
    before = tree(copy)
    with locked(copy), pytest.raises(BusyError, match="is busy: another edgekit is working in it"):
        run_recipe(load_recipe(finished.recipe), copy)
    assert tree(copy) == before


def test_an_output_that_is_a_file(tmp_path: Path, finished: Any) -> None:
    (tmp_path / "out").write_text("kept")
    with pytest.raises(OutputError, match="it is a file; name a directory"):
        run_recipe(load_recipe(finished.recipe), tmp_path / "out")
    assert (tmp_path / "out").read_text() == "kept"


@pytest.mark.parametrize(
    ("medians", "sizes", "best"),
    [((1.00, 1.04), (400, 100), 1), ((1.00, 1.20), (400, 100), 0), ((1.00, 0.60), (100, 100), 1), ((1, 1), (1, 2), 0)],
)
def test_of_models_that_are_about_as_fast_the_smallest_is_best(
    finished: Any, medians: tuple[float, ...], sizes: tuple[int, ...], best: int
) -> None:
    whole = finished.report.models[0]
    models = [
        replace(whole, name=str(i), size_bytes=size, bench=[{"latency_ms": {"p50": ms}}])
        for i, (ms, size) in enumerate(zip(medians, sizes, strict=True))
    ]
    chosen = choose_best(models, AcceptConfig(max_drop=1.0))
    assert chosen is not None
    assert chosen.name == str(best)


def test_the_best_is_chosen_on_validation_data(finished: Any) -> None:
    best = choose_best(finished.report.models, AcceptConfig(max_drop=1.0))
    assert best is not None
    quickest = min(finished.report.models, key=lambda m: m.bench[0]["latency_ms"]["p50"])
    assert best.bench[0]["latency_ms"]["p50"] <= 1.05 * quickest.bench[0]["latency_ms"]["p50"]
    assert finished.report.accepted is True


def test_a_data_set_of_ones_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    x = (rng.standard_normal((300, 6)) + 3 * np.eye(6)[labels]).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, labels=labels)
    (tmp_path / "r.yaml").write_text(
        f"name: own\nfamily: mlp\nsize: pico\ndata: {tmp_path / 'd.npz'}\ntrain: {{epochs: 12, batch_size: 32}}\n"
        "bench: {min_seconds: 0.02, threads: 1}\n"
    )
    report = run_recipe(load_recipe(tmp_path / "r.yaml"), tmp_path / "out")
    (base,) = report.models
    assert base.metric["test"]["n"] == 45
    assert base.metric["test"]["value"] > 0.8
    assert report.accepted is None


def test_the_pictures_are_of_the_figures(results: dict[str, Any], finished: Any) -> None:
    found = results["pictures"]["facts"]["classification"]
    for name, counts in found["confusion"].items():
        metric = next(m["metric"]["test"] for m in results["models"] if m["name"] == name)
        assert np.trace(counts) == round(metric["value"] * metric["n"])
        assert found["reliability"][name]["error"] == metric["also"]["calibration-error"]["value"]
    (compared,) = found["changed"]
    assert list(results["pictures"]["facts"]["against"]) == [compared]
    page = (finished.out / "report.html").read_text()
    assert "confusion matrix of base: " in page
    assert f'src="pictures/confusion-{compared}.svg"' in (finished.out / "report.md").read_text()


def test_pictures_can_be_switched_off(copy: Path, rerun: Rerun) -> None:
    assert rerun(copy, "report.pictures=false") == ["report"]
    assert json.loads((copy / "results.json").read_text())["pictures"] == {}
    assert [p.name for p in (copy / "pictures").iterdir()] == ["arrays.npz"]
    assert "<svg" not in re.sub(r"<script.*?</script>", "", (copy / "report.html").read_text(), flags=re.DOTALL)


def test_a_regression_is_learnt_in_the_unit_of_its_labels(tmp_path: Path) -> None:
    """Predicting the mean has an RMSE of about 77; R2 is told beside it, and the drop has an interval."""
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "name: diabetes\nfamily: mlp\nsize: pico\ndata: diabetes\n"
        "train: {epochs: 40, batch_size: 32, learning_rate: 1e-2}\nvariants: {int8: [{quantize: weights}]}\n"
        "bench: {min_seconds: 0.05}\n"
    )
    report = run_recipe(load_recipe(recipe), tmp_path / "out")
    base, int8 = report.models
    assert base.metric["test"]["value"] < 65
    assert base.metric["test"]["unit"] == "units"
    assert 0.2 < base.metric["test"]["also"]["r2"]["value"] < 0.7
    assert abs(int8.drop["test"]["value"]) < 2
    low, high = int8.drop["test"]["ci95"]
    assert low <= int8.drop["test"]["value"] <= high


def test_auto_is_a_step_that_searches(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "name: auto\nfamily: mlp\nsize: pico\ndata: digits\ntrain: {epochs: 2}\n"
        "variants: {auto: [{quantize: auto, max_drop: 0.02}]}\nbench: {min_seconds: 0.05, threads: 1}\n"
    )
    report = run_recipe(load_recipe(recipe), tmp_path / "out")
    step = report.models[1].steps[0]
    assert step["technique"] == "quantize: auto"
    assert len(step["details"]["attempts"]) > 1
    assert report.models[1].drop["validation"]["value"] <= 0.02
    assert step["changed"] == (step["details"]["method"] != "none")
