from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.conftest import dense

Cli = Callable[..., Any]
Tree = Callable[[Path], dict[str, str]]


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """A linear model, the same without its last class, and with small noise."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((64, 10))
    blind = weight.copy()
    blind[:, 9] = -100 * np.abs(blind[:, 9])
    noisy = weight + 0.01 * rng.standard_normal((64, 10))
    paths = [tmp_path / f"{name}.onnx" for name in ("good", "blind", "noisy")]
    for path, values in zip(paths, (weight, blind, noisy), strict=True):
        onnx.save(dense(values), path)
    return paths


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """What the first model says, three of four times."""
    rng = np.random.default_rng(5)
    images = np.abs(rng.standard_normal((80, 1, 8, 8))).astype(np.float32)
    weight = np.random.default_rng(0).standard_normal((64, 10)).astype(np.float32)
    labels = (images.reshape(80, 64) @ weight).argmax(1)
    labels[::4] = (labels[::4] + 1) % 10
    path = tmp_path / "d.npz"
    np.savez(path, image=images, labels=labels)
    return path


def test_each_model_is_compared_with_the_first(cli: Cli, models: list[Path], data: Path, tree: Tree) -> None:
    before = tree(data.parent)
    answer = cli("compare", *models, "--data", data, "--json")
    assert (answer.code, answer.err) == (0, "")
    found = answer.json()
    assert (found["metric"], found["n"], found["data"]) == ("top1", 80, str(data))
    good, blind, noisy = found["models"]
    assert [m["name"] for m in found["models"]] == ["good", "blind", "noisy"]
    assert good["metric"]["value"] == 0.75
    assert (good["drop"], good["agreement"], good["latency"]) == (None, None, None)
    assert blind["drop"]["value"] == pytest.approx(0.75 - blind["metric"]["value"])
    low, high = blind["drop"]["ci95"]
    assert low <= blind["drop"]["value"] <= high
    assert 0.9 < noisy["agreement"]["value"] <= 1
    assert blind["agreement"]["value"] < 1
    assert blind["size_ratio"] == 1.0
    assert found["pictures"]["facts"] == {}
    assert tree(data.parent) == before


def test_the_table_fits_a_terminal_and_names_the_first(cli: Cli, models: list[Path], data: Path) -> None:
    answer = cli("compare", *models, "--data", data)
    assert answer.code == 0
    assert "75.00 %" in answer.out
    assert "the first, good, is the measure of the others; agreement: of the answers to those of good" in " ".join(
        answer.out.split()
    )
    assert max(map(len, answer.out.splitlines())) <= 80


def test_the_page_holds_confusion_saliency_and_no_link(
    cli: Cli, models: list[Path], data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("captum")
    page = tmp_path / "out" / "c.html"
    answer = cli("compare", *models, "--data", data, "--html", page, "--json")
    assert (answer.code, answer.err) == (0, "")
    text = page.read_text()
    assert not re.findall(r"""(?:src|href)=["']?(?!data:)([^"' >]+)""", text)
    assert "<script" not in text
    assert "Saliency: blind" in text
    assert "Saliency: noisy" in text
    assert "confusion matrix of good: 60 of 80 right" in text
    facts = answer.json()["pictures"]["facts"]
    assert np.trace(facts["classification"]["confusion"]["good"]) == 60
    assert facts["against"]["noisy"]["saliency"]["mean_spearman"] > 0.9
    assert facts["against"]["noisy"]["activations"] == {"layers": []}
    assert [p.name for p in page.parent.iterdir()] == ["c.html"]


def test_data_without_labels_gives_agreement_alone(cli: Cli, models: list[Path], data: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.npz"
    np.savez(bare, image=np.load(data)["image"])
    found = cli("compare", *models[:2], "--data", bare, "--json").json()
    assert found["metric"] is None
    assert found["models"][1]["metric"] is None
    assert found["models"][1]["agreement"]["n"] == 80
    assert cli("compare", *models[:2], "--data", bare, "--html", tmp_path / "c.html").code == 0
    answer = cli("compare", *models[:2], "--data", bare, "--max-drop", "0.1")
    assert answer.code == 1
    assert answer.err.endswith("has no labels, so that no drop is known; leave --max-drop out\n")


def test_a_drop_beyond_the_floor_is_exit_3(cli: Cli, models: list[Path], data: Path) -> None:
    answer = cli("compare", *models, "--data", data, "--max-drop", "0.05", "--quiet")
    assert answer.code == 3
    assert cli("compare", models[0], models[2], "--data", data, "--max-drop", "0.05").code == 0


def test_latency_is_measured_where_it_is_asked_for(
    cli: Cli, models: list[Path], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgekit.comparison import compare

    asked = compare.BenchRequest
    monkeypatch.setattr(
        compare, "BenchRequest", lambda **settings: asked(**{**settings, "min_seconds": 0.05, "compare": False})
    )
    answer = cli("compare", *models[:2], "--data", data, "--latency", "--json")
    good, blind = (m["latency"] for m in answer.json()["models"])
    assert good["latency_ms"]["p50"] > 0
    assert good["gain"] is None
    assert blind["gain"]["speedup"] > 0
    assert blind["gain"]["verdict"] in ("FASTER", "SLOWER", "NO DIFFERENCE", "TOO NOISY")
    assert good["providers_used"] == ["CPUExecutionProvider"]
    told = cli("compare", *models[:2], "--data", data, "--latency").out
    assert "latency on cpu, batch 1" in told


def test_bad_comparisons_are_one_line(cli: Cli, models: list[Path], data: Path, tmp_path: Path) -> None:
    good = models[0]
    for args, said in (
        ([good, good, "--data", data], f"error: model {good} is given twice; name different files\n"),
        ([good, tmp_path / "no.onnx", "--data", data], "is not there; give the path of an .onnx file\n"),
        ([good, models[1], "--data", "digit"], "did you mean 'digits'? allowed: "),
        ([good, models[1], "--data", "digits", "--split", "tests"], "unknown split 'tests'; did you mean 'test'?"),
        ([good, models[1], "--data", data, "--metric", "top2"], "unknown metric 'top2'"),
        ([good, models[1], "--data", data, "--html", good], f"output {good} is the input {good}; "),
        ([good, models[1], "--data", data, "--html", data], f"output {data} is the input {data}; "),
    ):
        answer = cli("compare", *args)
        assert (answer.code, answer.out) == (1, ""), args
        assert said in answer.err
        assert len(answer.err.splitlines()) == 1
    assert cli("compare", good, "--data", data).code == 2


def test_metadata_that_somebody_wrote_does_no_harm(cli: Cli, models: list[Path], data: Path, tmp_path: Path) -> None:
    for index, model in enumerate(models[:2]):
        proto = onnx.load(model)
        proto.metadata_props.add(key="edgekit.classes", value="[1, 2")
        proto.metadata_props.add(key="edgekit.preprocessing", value='{"kind": "image", "mean": [0]}')
        proto.metadata_props.add(key="edgekit.task", value="<b>")
        onnx.save(proto, tmp_path / f"m{index}.onnx")
    pair = tmp_path / "m0.onnx", tmp_path / "m1.onnx"
    found = cli("compare", *pair, "--data", data, "--html", tmp_path / "c.html", "--json").json()
    assert found["task"] == "classification"
    assert found["pictures"]["classes"] == [str(i) for i in range(10)]
