from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.bundle import PackOptions
from edgekit.errors import BundleError, RecipeError
from edgekit.pipeline.finished import models_of_run
from edgekit.pipeline.pack import pack_run
from edgekit.pipeline.workspace import Workspace
from edgekit.recipe import load_recipe
from tests.conftest import Answer
from tests.pipeline.conftest import Finished


def test_a_run_is_packed_with_its_figures(
    finished: Finished,
    tmp_path: Path,
    cli: Callable[..., Answer],
) -> None:
    answer = cli("pack", "--run", finished.out, "--choose", "all", "--out", tmp_path / "B", "--json")
    assert answer.code == 0, answer.err
    content = answer.json()
    best = finished.report.best
    assert content["variants"][0]["name"] == best
    assert {v["name"] for v in content["variants"]} == {"base", "int8", "stored"}
    manifest = json.loads((tmp_path / "B" / "manifest.json").read_text())
    model = next(m for m in finished.report.models if m.name == best)
    variant = manifest["variants"][0]
    assert variant["metric"]["value"] == model.metric["test"]["value"]
    assert variant["metric"]["n"] == 360
    assert variant["bench"][0]["p50_ms"] == model.bench[0]["latency_ms"]["p50"]
    int8 = next(v for v in manifest["variants"] if v["name"] == "int8")
    assert [step["step"] for step in int8["lineage"]] == ["export: dynamo", "quantize: static"]
    assert manifest["name"] == "tiny"
    assert "epochs: 4" in (tmp_path / "B" / "MODEL_CARD.md").read_text()


def test_one_model_of_a_run(finished: Finished) -> None:
    candidates, options = models_of_run(finished.out, "stored", PackOptions(name="own"))
    assert [c.name for c in candidates] == ["stored"]
    assert (options.name, options.data, options.family) == ("own", "digits", "cnn")
    with pytest.raises(BundleError, match="did you mean 'stored'"):
        models_of_run(finished.out, "storde", PackOptions())


def test_a_run_that_is_not_as_it_was_is_refused(finished: Finished, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no finished run: it has no results\.json"):
        models_of_run(tmp_path, "best", PackOptions())
    out = Path(shutil.copytree(finished.out, tmp_path / "out"))
    with (out / "models" / "stored.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match=r"stored\.onnx changed since"):
        models_of_run(out, "stored", PackOptions())
    results = json.loads((out / "results.json").read_text())
    (out / "results.json").write_text(json.dumps({**results, "best": None}))
    with pytest.raises(BundleError, match="none is the best; name one: --choose base or int8 or stored"):
        models_of_run(out, "best", PackOptions())
    (out / "results.json").write_text("{")
    with pytest.raises(BundleError, match="is damaged"):
        models_of_run(out, "best", PackOptions())


def test_named_models_are_judged_and_compared_with_the_largest(
    finished: Finished,
    tmp_path: Path,
    cli: Callable[..., Answer],
) -> None:
    models = finished.out / "models"
    asked = (models / "base.onnx", "--variant", f"tiny={models / 'int8.onnx'}", "--data", "digits")
    answer = cli("pack", *asked, "--out", tmp_path / "B.zip", "--json")
    assert answer.code == 0, answer.err
    base, tiny = answer.json()["variants"]
    assert (base["name"], base["metric"]["name"], base["metric"]["drop"]) == ("base", "top1", 0.0)
    test = {m.name: m for m in finished.report.models}
    assert tiny["metric"]["drop"] == pytest.approx(test["int8"].drop["test"]["value"])


def test_wrong_usage(tmp_path: Path, cli: Callable[..., Answer]) -> None:
    assert cli("pack", "a.onnx", "--run", tmp_path, "--out", tmp_path / "B").code == 2
    assert cli("pack", "--variant", "a.onnx", "--out", tmp_path / "B").code == 2
    answer = cli("pack", tmp_path, "--out", tmp_path / "B")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "is a directory; name .onnx files, or a finished run with --run" in answer.err


def test_a_recipe_ends_with_a_bundle(finished: Finished, copy: Path, rerun: Callable[..., list[str]]) -> None:
    from edgekit.bundle import verify_bundle

    assert rerun(copy, "pack.variant=best") == ["report", "pack"]
    bundle = copy / "bundle"
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert (manifest["name"], [v["name"] for v in manifest["variants"]]) == ("tiny", [finished.report.best])
    assert not verify_bundle(bundle).faults
    assert rerun(copy, "pack.variant=best") == []
    (bundle / "manifest.sig").write_bytes(bytes(64))
    assert rerun(copy, "pack.variant=best") == []
    (bundle / "README.md").unlink()
    assert rerun(copy, "pack.variant=best") == ["pack"]


def test_a_run_without_a_best_ends_without_a_bundle(
    finished: Finished, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = Workspace(load_recipe(finished.recipe, ["pack.variant=best"]), copy)
    assert pack_run(work, replace(finished.report, best=None)) is None
    assert not (copy / "bundle").exists()
    assert "no bundle: no variant keeps the recipe's floors" in capsys.readouterr().err


def test_recipes_name_variants_that_are_there(finished: Finished) -> None:
    with pytest.raises(RecipeError, match="unknown variant 'int4'; did you mean 'int8'"):
        load_recipe(finished.recipe, ["pack.variant=int4"])
    assert load_recipe(finished.recipe, ["pack.variant=all"]).pack is not None


def test_the_command_tells_where_the_bundle_is(finished: Finished, copy: Path, cli: Callable[..., Answer]) -> None:
    answer = cli("run", finished.recipe, "--out", copy, "--set", "pack.variant=stored", "--json")
    assert answer.code == 0, answer.err
    assert answer.json()["bundle"] == str(copy / "bundle")
    assert (copy / "bundle" / "models" / "stored" / "model.onnx").is_file()
