from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit.errors import InputError
from edgekit.runtime import Model, load
from edgekit.runtime.sources import answer_words, inputs_named
from tests.conftest import ROOT
from tests.runtime.bundles import IMAGE, logits_of, manifest, write_bundle

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 17, (5, 8, 8), dtype=np.uint8)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return load(write_bundle(tmp_path / "b", manifest(preprocessing=IMAGE)))


@pytest.fixture
def labels(model: Model) -> list[str | None]:
    return [model.predict(p).label for p in PIXELS]


def found(model: Model, *words: object) -> list[tuple[str, str | None]]:
    return [(a.name, a.prediction.label if a.prediction else a.error) for a in answer_words(model, [*map(str, words)])]


def test_pictures_and_folders(model: Model, labels: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(folder / f"{index}.png")
    (folder / "notes.md").write_text("not asked")
    assert found(model, folder) == [(str(folder / f"{i}.png"), label) for i, label in enumerate(labels)]
    assert found(model, folder / "3.png") == [(str(folder / "3.png"), labels[3])]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"empty holds no file for this model; it takes .png, .jpg"):
        found(model, empty)


def test_one_bad_picture_leaves_the_others_alone(model: Model, labels: list[str], tmp_path: Path) -> None:
    good, bad = tmp_path / "0.png", tmp_path / "1.png"
    Image.fromarray(PIXELS[0]).save(good)
    bad.write_text("text")
    first, second, third = found(model, good, bad, good)
    assert (first[1], third[1]) == (labels[0], labels[0])
    assert "1.png is no picture that can be read" in str(second[1])


@pytest.mark.parametrize("shape", [(5, 8, 8), (5, 8, 8, 1)])
def test_npy_of_pixels(model: Model, labels: list[str], tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "pixels.npy"
    np.save(path, PIXELS.reshape(shape))
    assert [label for _, label in found(model, path)] == labels
    np.save(path, PIXELS[0])
    assert found(model, path) == [(str(path), labels[0])]


def test_prepared_arrays(model: Model, tmp_path: Path) -> None:
    x = RNG.standard_normal((3, 1, 8, 8)).astype(np.float32)
    wanted = [str(i) for i in logits_of(x).argmax(axis=1)]
    np.save(tmp_path / "a.npy", x)
    np.savez(tmp_path / "a.npz", image=x, labels=np.zeros(3))
    np.savez(tmp_path / "wrong.npz", picture=x)
    for name in ("a.npy", "a.npz"):
        assert found(model, tmp_path / name) == [(f"{tmp_path / name}[{i}]", w) for i, w in enumerate(wanted)]
    assert "input 'image' is missing" in str(found(model, tmp_path / "wrong.npz")[0][1])


def test_standard_input(model: Model, labels: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    png, npy = io.BytesIO(), io.BytesIO()
    Image.fromarray(PIXELS[0]).save(png, "png")
    np.save(npy, PIXELS[:2])
    for content, wanted in ((png, [("stdin", labels[0])]), (npy, [(f"stdin[{i}]", labels[i]) for i in (0, 1)])):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.getvalue())))
        assert found(model, "-") == wanted


def test_files_of_arrays_that_cannot_be_read_are_named(model: Model, tmp_path: Path) -> None:
    np.save(tmp_path / "code.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04")
    np.save(tmp_path / "none.npy", np.zeros((0, 8, 8), np.uint8))
    np.savez(tmp_path / "uneven.npz", image=np.zeros((3, 1, 8, 8), np.float32), more=np.zeros(2))
    for name, said in (
        ("code.npy", "code.npy holds no arrays that can be read (Object arrays cannot be loaded"),
        ("torn.npz", "torn.npz holds no arrays that can be read ("),
        ("none.npy", "none.npy holds no rows"),
        ("uneven.npz", "uneven.npz holds arrays of different numbers of rows (image 3, more 2); give each the same"),
    ):
        np.save(tmp_path / "good.npy", PIXELS[0])
        (_, first), (_, wrong), (_, last) = found(model, tmp_path / "good.npy", tmp_path / name, tmp_path / "good.npy")
        assert said in str(wrong)
        assert first == last == model.predict(PIXELS[0]).label  # others do not suffer


def test_texts_and_text_files(tmp_path: Path) -> None:
    told: Any = type("Told", (), {"preprocessing": {"kind": "text"}, "inputs": ()})
    (tmp_path / "a.txt").write_text("from a file", encoding="utf-8")
    (tmp_path / "b.txt").write_bytes(b"\xff")
    words = ["some words", "x" * 5000, "", str(tmp_path / "a.txt")]
    assert [given for _, given in inputs_named(words, told)] == ["some words", "x" * 5000, "", "from a file"]
    (_, wrong), (_, gone), (_, good) = inputs_named(
        [*map(str, (tmp_path / "b.txt", tmp_path / "c.txt")), "a b.txt"], told
    )
    assert "b.txt is no UTF-8 text (byte 0); convert it" in str(wrong)
    assert "c.txt is not there; name a text file, or give a text" in str(gone)
    assert (type(wrong), type(gone), good) == (InputError, InputError, "a b.txt")


def test_the_module_is_a_command(model: Model, labels: list[str], tmp_path: Path) -> None:
    Image.fromarray(PIXELS[0]).save(tmp_path / "0.png")
    words = [sys.executable, "-m", "edgekit.runtime", str(tmp_path / "b"), str(tmp_path / "0.png"), "--top", "2"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["label"], len(answer["top"])) == (labels[0], 2)
