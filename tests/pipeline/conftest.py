"""A small recipe, and a directory in which it was run once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgekit import progress
from edgekit.pipeline import Report, run_recipe
from edgekit.recipe import load_recipe

RECIPE = """\
name: tiny
family: cnn
size: pico
data: digits
train: {epochs: 4, batch_size: 64, learning_rate: 1e-2}
variants:
  int8: [{quantize: static, calibration: {samples: 64, method: minmax}}]
  stored: [{quantize: weights}]
bench: {min_seconds: 0.05, threads: 1}
accept: {max_drop: 0.05}
"""


@dataclass(frozen=True)
class Finished:
    """A directory and the report of the run that filled it; only to be read."""

    recipe: Path
    out: Path
    report: Report


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The recipe, run from nothing."""
    place = tmp_path_factory.mktemp("pipeline")
    recipe = place / "tiny.yaml"
    recipe.write_text(RECIPE)
    progress.set_quiet(True)
    return Finished(recipe, place / "out", run_recipe(load_recipe(recipe), place / "out"))


@pytest.fixture
def copy(finished: Finished, tmp_path: Path) -> Path:
    """A copy of that directory, to be changed."""
    return Path(shutil.copytree(finished.out, tmp_path / "out"))


@pytest.fixture
def rerun(finished: Finished) -> Callable[..., list[str]]:
    """Run the recipe again in a directory, with settings; gives the names of the steps that had to be done."""

    def run(out: Path, *settings: str) -> list[str]:
        report = run_recipe(load_recipe(finished.recipe, settings), out)
        return [step.name for step in report.steps if not step.reused]

    return run
