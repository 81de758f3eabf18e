"""Fortunes: 15,000 sayings, jokes and verses in English, 2.5 million characters, as Debian packs them.

Source: Debian's package `fortunes` (fortune-mod); the texts are quotations with their authors' names.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgekit.data.text.corpus import Corpus
from edgekit.data.text.documents import decode
from edgekit.errors import DataError

PLACES = (Path("/usr/share/games/fortunes"), Path("/usr/share/games/fortune"), Path("/usr/share/fortune"))
_SEPARATOR = "\n%\n"


def read(directory: Path | None = None) -> Corpus:
    """Read every fortune.

    Args:
        directory: Where the files lie; by default Debian's place, then other systems' and the cache.

    Raises:
        DataError: if the files are nowhere, or are no UTF-8.
    """
    texts: list[str] = []
    for path in _files(locate(directory)):
        whole = decode(path.read_bytes(), str(path))
        texts += [part.strip("\n") for part in f"\n{whole}\n".split(_SEPARATOR)]
    return Corpus("fortunes", tuple(t for t in texts if t.strip()))


def fingerprint(directory: Path | None = None) -> str:
    """The hash of all files."""
    found = hashlib.sha256()
    for path in _files(locate(directory)):
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return f"fortunes {found.hexdigest()}"


def locate(directory: Path | None = None) -> Path:
    """The directory that holds the files."""
    if directory is not None:
        if not _files(directory):
            raise DataError(f"data 'fortunes': {directory} holds no fortunes; they are files without a dot in the name")
        return directory
    places = (*PLACES, _cache())
    found = next((place for place in places if _files(place)), None)
    if found is None:
        tried = ", ".join(map(str, places))
        raise DataError(
            f"data 'fortunes' is in none of {tried}; on Debian: apt-get install fortunes; "
            f"elsewhere put the files of that package into {_cache()}"
        )
    return found


def _cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("edgekit") / "fortunes"


def _files(directory: Path) -> list[Path]:
    """The texts: beside them lie indices (.dat) and links (.u8)."""
    if not directory.is_dir():
        return []
    return sorted(p for p in directory.iterdir() if p.is_file() and "." not in p.name)
