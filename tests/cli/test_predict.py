"""edgekit predict as a person types it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit.runtime import load
from edgekit.runtime.guard import guard_statistics
from tests.conftest import Answer
from tests.runtime.bundles import IMAGE, manifest, variant, write_bundle, zipped

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 17, (8, 8), dtype=np.uint8)


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PIXELS).save("p.png")
    Path("text.png").write_text("text")
    place = write_bundle(tmp_path / "b", manifest([variant("int8")], preprocessing=IMAGE))
    return zipped(place, Path("b.zip"))


def test_a_table_and_a_document(cli: Callable[..., Answer], bundle: Path) -> None:
    answer = cli("predict", bundle, "p.png")
    wanted = load(bundle).predict(PIXELS)
    assert (answer.code, answer.err) == (0, "")
    assert "tiny: int8 on cpu" in answer.out
    assert f"{wanted.label} {wanted.score:.1%}, " in answer.out
    told = cli("predict", bundle, "p.png", "--top", "2", "--json").json()
    (one,) = told.pop("predictions")
    assert told == {"bundle": "b.zip", "name": "tiny", "version": "1", "variant": "int8", "provider": "cpu"}
    assert (one["input"], one["label"], one["score"]) == ("p.png", wanted.label, wanted.score)
    assert [c["label"] for c in one["top"]] == [c.label for c in wanted.top[:2]]


def test_one_wrong_input_has_its_line_and_the_others_their_answers(cli: Callable[..., Answer], bundle: Path) -> None:
    answer = cli("predict", bundle, "text.png", "p.png", "--json")
    assert answer.code == 1
    first, second = answer.json()["predictions"]
    assert first["error"].startswith("text.png is no picture that can be read (")
    assert "label" in second
    (line,) = answer.err.splitlines()
    assert line == f"error: {first['error']}"


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("gone.zip", "p.png"), 1, "error: bundle gone.zip is not there; name a directory or a .zip"),
        (("p.png", "p.png"), 1, "error: p.png is no whole zip file"),
        (
            ("b.zip", "p.png", "--provider", "cuda"),
            3,
            "error: bundle tiny has no variant for provider 'cuda'; it has int8",
        ),
        (("b.zip", "p.png", "--variant", "int9"), 1, "error: unknown variant 'int9'; did you mean 'int8'?"),
        (("b.zip", "gone.png"), 1, "error: gone.png is not there"),
        (("b.zip",), 2, "Missing argument"),
        (("b.zip", "p.png", "--guard", "no"), 2, "Invalid value"),
    ],
)
def test_what_is_wrong_is_one_line(
    cli: Callable[..., Answer], bundle: Path, args: tuple[str, ...], code: int, said: str
) -> None:
    answer = cli("predict", *args)
    assert answer.code == code
    assert said in answer.err


def test_unusual_inputs_are_told_or_refused(cli: Callable[..., Answer], bundle: Path, tmp_path: Path) -> None:
    seen = np.zeros((30, 1, 8, 8), np.float32) + np.arange(30).reshape(-1, 1, 1, 1).astype(np.float32)
    write_bundle(tmp_path / "guarded", manifest(preprocessing=IMAGE, guard=guard_statistics({"image": seen})))
    warned = cli("predict", "guarded", "p.png")
    assert warned.code == 0
    assert warned.err.startswith("warning: p.png: input 'image' ")
    assert cli("predict", "guarded", "p.png", "--guard", "off").err == ""
    refused = cli("predict", "guarded", "p.png", "--guard", "error")
    assert refused.code == 1
    assert "load with guard='warn'" in refused.err
