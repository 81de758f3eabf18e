"""Debian's packages: found where Debian keeps every file for good, and read in memory."""

from __future__ import annotations

import hashlib
import io
import lzma
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass

from edgekit.errors import DataError

URL = "https://snapshot.debian.org/file/"
_TIMEOUT_S = 30
_MAGIC, _HEAD = b"!<arch>\n", 60
_LARGEST_FILE = 1 << 24


@dataclass(frozen=True)
class Package:
    """One .deb.

    Attributes:
        name: With its version.
        size_bytes: Of the file.
        sha1: What the snapshot service finds it by.
        sha256: What is insisted on.
    """

    name: str
    size_bytes: int
    sha1: str
    sha256: str


def download(package: Package) -> bytes:
    """Get a package.

    Raises:
        DataError: if it cannot be had, or is another file.
    """
    try:
        with urllib.request.urlopen(URL + package.sha1, timeout=_TIMEOUT_S) as answer:
            content: bytes = answer.read(package.size_bytes + 1)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise DataError(f"the download of Debian's {package.name} failed ({error})") from error
    if hashlib.sha256(content).hexdigest() != package.sha256:
        raise DataError(f"the download of Debian's {package.name} is another file than it should be")
    return content


def files_in(deb: bytes, directory: str) -> dict[str, bytes]:
    """The plain files of one directory of a package, by name; nothing is written to a path that it names.

    Args:
        deb: A package.
        directory: Such as "usr/share/games/fortunes".

    Raises:
        DataError: if it is no package of Debian.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(_data_of(deb)), mode="r:*") as packed:
            members = [m for m in packed if m.isfile() and m.size <= _LARGEST_FILE]
            wanted = [m for m in members if m.name.removeprefix("./").rpartition("/")[0] == directory]
            return {m.name.rpartition("/")[2]: _content(packed, m) for m in wanted}
    except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError) as error:
        raise DataError(f"this is no readable package of Debian ({error}); get it again") from error


def _content(packed: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = packed.extractfile(member)
    return file.read() if file is not None else b""


def _data_of(deb: bytes) -> bytes:
    """The archive of a package's files: a .deb is an `ar` archive of three members."""
    if not deb.startswith(_MAGIC):
        raise ValueError("it does not begin as one")
    at = len(_MAGIC)
    while at + _HEAD <= len(deb):
        name, size = deb[at : at + 16].decode("ascii", "replace").strip(), int(deb[at + 48 : at + 58])
        if name.startswith("data.tar"):
            return deb[at + _HEAD : at + _HEAD + size]
        at += _HEAD + size + size % 2
    raise ValueError("it holds no data")
