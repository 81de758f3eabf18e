"""The README's commands are run, its recipe is a real one, and its error messages are those that edgekit prints."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.errors import RecipeError
from edgekit.recipe import find_recipe, load_recipe

README = Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.slow
def test_commands_run_in_their_order(tmp_path: Path) -> None:
    commands = [line for block in blocks("sh")[1:] for line in block.strip().splitlines()]
    assert len(commands) >= 7
    for command in commands:
        words = shlex.split(command, comments=True)
        assert words[0] == "edgekit"
        done = subprocess.run(
            [sys.executable, "-m", *words, "--quiet"], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert done.stdout.strip()
    assert (tmp_path / "model.int8.onnx").stat().st_size <= (tmp_path / "model.onnx").stat().st_size
    assert (tmp_path / "runs/digits/report.html").is_file()


def test_the_recipe_shown_is_the_one_that_comes_with_edgekit(tmp_path: Path) -> None:
    shown = tmp_path / "shown.yaml"
    shown.write_text(blocks("yaml")[0], encoding="utf-8")
    assert load_recipe(shown) == load_recipe(find_recipe(Path("digits-cnn")))


def test_the_mistakes_shown_are_told_in_these_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = re.findall(r"^error: (my\.yaml:.*)$", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    Path("my.yaml").write_text(
        "name: mine\nfamily: cn\ndata: digits\n\nvariants:\n  int8: [{quantize: static, calibration: {sampels: 9}}]\n"
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(Path("my.yaml"))
    assert str(caught.value).splitlines() == shown
