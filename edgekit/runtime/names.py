"""What the files of a bundle may be called, and how many and how large they may be.

Refused are names that lead out of the bundle or that some file system takes for another, and too many bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import BundleError

# What Windows opens something else for, or cannot have in a name.
_PORTS = (f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³")
_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$", *_PORTS}
_UNUSABLE = frozenset('<>"|?*')


@dataclass(frozen=True)
class Limits:
    """What a bundle may be at most.

    Attributes:
        files: Their number.
        total_bytes: Of all files, unpacked.
        ratio: Unpacked bytes of a file for each packed one.
        unsuspicious_bytes: Up to this size the ratio does not count.
        name_length: Characters of a file's path.
    """

    files: int = 10_000
    total_bytes: int = 16 << 30
    ratio: int = 200
    unsuspicious_bytes: int = 1 << 20
    name_length: int = 240


def check_name(name: str, bundle: object, limits: Limits | None = None) -> str:
    """A file's path inside a bundle, if it means the same file everywhere and lies inside.

    Raises:
        BundleError: for any other.
    """
    parts = name.split("/")
    reason = ""
    if name.startswith("/") or "\\" in name or ":" in name:
        reason = "is not relative with / between folders"
    elif ".." in parts:
        reason = "leads out of the bundle"
    elif len(name) > (limits or Limits()).name_length:
        reason = "is too long"
    elif not all(map(_is_plain, parts)):
        reason = "is not the same name on every file system"
    if reason:
        raise BundleError(f"bundle {bundle}: the file name {name!r} {reason}; do not use this bundle")
    return name


def _is_plain(part: str) -> bool:
    """Whether a folder's or file's name has no meaning beyond itself, on Windows either."""
    visible = part.isprintable() and part[-1:] not in ("", " ", ".") and not _UNUSABLE.intersection(part)
    return visible and part.split(".")[0].rstrip().lower() not in _DEVICES


def check_files(path: Path, sizes: Mapping[str, int], limits: Limits) -> None:
    """Refuse a list of files for a name, for two that some system takes for one, or for the sum of the sizes.

    Raises:
        BundleError: for the first.
    """
    seen: dict[str, str] = {}
    for name in sizes:
        twin = seen.setdefault(_folded(check_name(name, path, limits)), name)
        if twin != name:
            raise _clash(path, twin, name)
    folders = {"/".join(folded.split("/")[:depth]): name for folded, name in seen.items() for depth in _depths(folded)}
    both = next((name for folded, name in seen.items() if folded in folders), None)
    if both is not None:
        raise _clash(path, both, folders[_folded(both)])
    total = sum(sizes.values())
    if total > limits.total_bytes:
        raise BundleError(f"bundle {path} has {total:,} bytes unpacked, more than the limit of {limits.total_bytes:,}")


def _depths(name: str) -> range:
    return range(1, name.count("/") + 1)


def _folded(name: str) -> str:
    """The same for names that are one on Windows or a Mac: case does not count there, nor how accents are put on."""
    if name.isascii():
        return name.lower()
    from unicodedata import normalize  # Unicode 15.0, definition D145: canonical caseless match

    return normalize("NFD", normalize("NFD", name).casefold())


def _clash(path: Path, first: str, second: str) -> BundleError:
    shown = (name if name.isascii() else ascii(name) for name in (first, second))
    return BundleError(f"bundle {path} has {' and '.join(shown)}, which are one file on some systems; rename one")
