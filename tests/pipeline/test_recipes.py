"""Every recipe that comes with edgekit, from training to report: pico size, a slice of the real data."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edgekit import judge
from edgekit.data import SOURCES, DataSet, fashion_mnist
from edgekit.data.text import cmudict, fortunes
from edgekit.data.text.corpus import Corpus
from edgekit.data.text.source import CORPORA, text_source
from edgekit.errors import DataError
from edgekit.pipeline import run_recipe
from edgekit.recipe import Recipe, list_recipes, load_recipe
from tests.load.language_models import save_model

QUICK = ["size=pico", "train.epochs=1", "train.batch_size=256", "bench.min_seconds=0.02", "bench.batch=[1]"]
SHORT = ["bench.min_seconds=0.02", "model.hf=smollm2", "data.length=32", "data.most_tokens=256"]
FEW_PICTURES = {"train": 1000, "calibration": 200, "validation": 300}
FEW_TEXTS = ("wisdom", "love")


@pytest.fixture
def slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fewer pictures, mails and texts; judges that learn little, and lie elsewhere than the user's."""

    def load(directory: Path | None, task: str) -> DataSet:
        data = fashion_mnist.load(directory, task)
        return replace(data, splits={**data.splits, "test": data.splits["test"].take(500)})

    monkeypatch.setattr(fashion_mnist, "SIZES", FEW_PICTURES)
    monkeypatch.setitem(SOURCES, "fashion-mnist", replace(SOURCES["fashion-mnist"], load=load))
    for name, each in (("spam-assassin", 20), ("cmudict", 100)):
        corpus = CORPORA[name]
        monkeypatch.setitem(CORPORA, name, replace(corpus, read=partial(_some, corpus.read, each)))
        monkeypatch.setitem(SOURCES, name, text_source(corpus.defaults))
    whole = next((p for p in fortunes.PLACES if p.is_dir()), None)
    if whole:
        (tmp_path / "fortunes").mkdir()
        for name in FEW_TEXTS:
            shutil.copy(whole / name, tmp_path / "fortunes")
        monkeypatch.setattr(fortunes, "PLACES", (tmp_path / "fortunes",))
    monkeypatch.setattr(judge, "_cache", lambda: tmp_path / "judges")
    monkeypatch.setattr(judge, "_LEAST_STEPS", 0)
    judge.judge_of.cache_clear()
    yield
    judge.judge_of.cache_clear()


def _some(read: Callable[[Path | None], Corpus], each: int, place: Path | None = None) -> Corpus:
    """One text out of so many of a corpus."""
    corpus = read(place)
    return corpus.take(np.arange(0, len(corpus), each))


def _require(name: str) -> None:
    """Skip where the data is not on this machine."""
    try:
        SOURCES[name].fingerprint(None)
        if name == "fashion-mnist":
            fashion_mnist.locate()
        if name == "cmudict":
            cmudict.locate()
    except DataError as error:
        pytest.skip(str(error))


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What recipes load from the working directory, as small as it comes."""
    save_model("bert-six", tmp_path / "models").rename(tmp_path / "minilm")
    save_model("llama", tmp_path / "models").rename(tmp_path / "smollm2")
    monkeypatch.chdir(tmp_path)


def _pico_pruning(recipe: Recipe) -> Iterator[str]:
    """Settings that fit pruning to layers of a few channels, and to two blocks."""
    usual = {"round_to": 1, "left": 1, "macs": 1.3, "parameters": 1.3, "ratio": 0.5}
    for name, steps in recipe.variants.items():
        for index, step in enumerate(steps):
            if not hasattr(step, "finetune"):
                continue
            said = {k: v for k, v in usual.items() if k in step.model_fields_set or k == "round_to"}
            yield from (f"variants.{name}.{index}.{k}={v}" for k, v in said.items() if k in type(step).model_fields)
            yield f"variants.{name}.{index}.finetune.epochs=1"


@pytest.mark.slow
@pytest.mark.usefixtures("slices", "foreign")
@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_runs_at_pico_size(name: str, tmp_path: Path) -> None:
    path = list_recipes()[name]
    recipe = load_recipe(path)
    _require(recipe.data if isinstance(recipe.data, str) else recipe.data.title)
    quick = QUICK if recipe.family else [*QUICK[1:], "data.length=64"]
    quick = SHORT if name == "fortunes-smollm2" else quick
    report = run_recipe(load_recipe(path, [*quick, *_pico_pruning(recipe)]), tmp_path / "out")
    assert [m.name for m in report.models] == ["base", *recipe.variants]
    assert all(m.size_bytes > 0 for m in report.models)
    assert {p.name for p in (tmp_path / "out").glob("re*")} == {"results.json", "report.md", "report.html"}
