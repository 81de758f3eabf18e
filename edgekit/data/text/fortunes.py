"""Fortunes: 15,000 sayings, jokes and verses in English, 2.5 million characters, as Debian packs them.

Source: Debian's packages `fortunes` and `fortunes-min` (fortune-mod): quotations with their authors' names.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgekit.data.text.corpus import Corpus
from edgekit.data.text.debian import Package, download, files_in
from edgekit.data.text.documents import decode
from edgekit.errors import DataError
from edgekit.files import replacing
from edgekit.progress import note

_INSIDE = "usr/share/games/fortunes"
PLACES = (Path("/usr/share/games/fortunes"), Path("/usr/share/games/fortune"), Path("/usr/share/fortune"))
PACKAGES = (
    Package(
        "fortunes_1.99.1-7.3_all.deb",
        848_988,
        "fecdae7a5137a826a83e9d18b914d703856d7786",
        "41d0551dc0ff52f875a2ecef7c39da2f672ab468c37e170119f7e0245a9d63c5",
    ),
    Package(
        "fortunes-min_1.99.1-7.3_all.deb",
        56_492,
        "27a7af669e14799f28eae5d76f0ab255d9c5d3b9",
        "9eed5b45064e41133dae0967cf3a17588ad77c014fcc7bf1527fa3ea48e44d07",
    ),
)
_SEPARATOR = "\n%\n"


def read(directory: Path | None = None) -> Corpus:
    """Read every fortune.

    Args:
        directory: Where the files lie; by default Debian's place, then other systems', the cache, and a download.

    Raises:
        DataError: if the files are nowhere and cannot be had, or are no UTF-8.
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
    """The directory that holds the files, downloading them into the cache as a last resort."""
    if directory is not None:
        if not _files(directory):
            raise DataError(f"data 'fortunes': {directory} holds no fortunes; they are files without a dot in the name")
        return directory
    places = (*PLACES, _cache())
    found = next((place for place in places if _files(place)), None)
    if found is not None:
        return found
    try:
        return _download(_cache())
    except DataError as error:
        tried = ", ".join(map(str, places))
        raise DataError(
            f"data 'fortunes' is in none of {tried}, and {error}; on Debian: apt-get install fortunes; "
            f"elsewhere put the files of that package into {_cache()}"
        ) from error


def _download(place: Path) -> Path:
    note(f"downloading fortunes (0.9 MB) into {place}")
    texts: dict[str, bytes] = {}
    for package in PACKAGES:
        texts |= files_in(download(package), _INSIDE)
    for name, content in texts.items():
        if "." not in name:
            with replacing(place / name) as temporary:
                temporary.write_bytes(content)
    return place


def _cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("edgekit") / "fortunes"


def _files(directory: Path) -> list[Path]:
    """The texts: beside them lie indices (.dat) and links (.u8)."""
    if not directory.is_dir():
        return []
    return sorted(p for p in directory.iterdir() if p.is_file() and "." not in p.name)
