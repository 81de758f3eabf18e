"""Files of a bundle, in a directory or a zip, that are not trusted until they are checked.

Nothing is unpacked to be looked at, and every byte that is handed out was counted, and hashed where the hash is known.
`runtime.opening` opens a bundle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edgekit.errors import BundleError, brief
from edgekit.runtime.names import check_name

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
_BLOCK = 1 << 20
GET_AGAIN = "get it again from where it was made"


@dataclass(frozen=True)
class FileEntry:
    """What the manifest says of a file.

    Attributes:
        sha256: Of its bytes, as hex.
        size_bytes: How many there are.
    """

    sha256: str
    size_bytes: int


class Archive:
    """The files of one bundle; a context that is closed at its end.

    Args:
        path: Where it lies, for messages.
        sizes: File name -> bytes.

    Attributes:
        errors: What reading may raise.
    """

    errors: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, path: Path, sizes: Mapping[str, int]) -> None:
        self.path = path
        self.sizes = dict(sizes)

    def open(self, name: str) -> IO[bytes]:
        """A file, to be read."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the file."""

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def blocks(self, name: str) -> Iterator[bytes]:
        """The bytes of a file, piece by piece, and never more than it is said to have.

        Raises:
            BundleError: if it is not there, or damaged.
        """
        if name not in self.sizes:
            raise BundleError(f"bundle {self.path} has no file {name}; {GET_AGAIN}")
        left = self.sizes[name]
        try:
            with self.open(name) as file:
                while block := file.read(_BLOCK):
                    left -= len(block)
                    if left < 0:
                        raise BundleError(f"bundle {self.path}: {name} is longer than the bundle says; {GET_AGAIN}")
                    yield block
        except self.errors as error:
            raise BundleError(
                f"bundle {self.path}: {name} cannot be read ({brief(error, 160)}); {GET_AGAIN}"
            ) from error


def read_file(archive: Archive, name: str, most_bytes: int) -> bytes:
    """The bytes of a file whose hash nobody knows.

    Raises:
        BundleError: if it is not there, damaged, or larger than `most_bytes`.
    """
    if archive.sizes.get(name, 0) > most_bytes:
        size = archive.sizes[name]
        raise BundleError(f"bundle {archive.path}: {name} has {size:,} bytes, and {most_bytes:,} are the most")
    return b"".join(archive.blocks(name))


def read_checked(archive: Archive, name: str, entry: FileEntry) -> bytes:
    """The bytes of a file, if they are those that the manifest is about.

    Raises:
        BundleError: if it is not there or another one.
    """
    return b"".join(checked_blocks(archive, name, entry))


def checked_blocks(archive: Archive, name: str, entry: FileEntry) -> Iterator[bytes]:
    """The bytes of a file, piece by piece; its hash is compared at the end, so what came before is not sure until then.

    Raises:
        BundleError: if it is not there or another one.
    """
    size = archive.sizes.get(name)
    if size is not None and size != entry.size_bytes:
        raise BundleError(
            f"bundle {archive.path}: {name} has {size:,} bytes, its manifest says {entry.size_bytes:,}; {GET_AGAIN}"
        )
    found = hashlib.sha256()
    for block in archive.blocks(name):
        found.update(block)
        yield block
    if found.hexdigest() != entry.sha256:
        raise BundleError(
            f"bundle {archive.path}: {name} was changed: its SHA-256 is {found.hexdigest()[:12]}…, its manifest says "
            f"{entry.sha256[:12]}…; {GET_AGAIN}"
        )


def check_file(archive: Archive, name: str, entry: FileEntry) -> None:
    """Read a file to its end to see that it is the one that the manifest is about.

    Raises:
        BundleError: if it is not there or another one.
    """
    for _ in checked_blocks(archive, name, entry):
        pass


def find_faults(archive: Archive, files: Mapping[str, FileEntry]) -> list[str]:
    """What differs between a bundle's files and what its manifest says of them; one line each, none if nothing."""
    extra = sorted(set(archive.sizes) - set(files) - {MANIFEST, SIGNATURE})
    faults = [f"bundle {archive.path}: {name} is not in its manifest; remove it" for name in extra]
    for name in sorted(files):
        try:
            check_file(archive, name, files[name])
        except BundleError as error:
            faults.append(str(error))
    return faults


def extract_files(archive: Archive, files: Mapping[str, FileEntry], target: Path, names: Iterable[str]) -> list[Path]:
    """Write files of a bundle into an existing directory, under the folders that they have in the bundle.

    Args:
        archive: The bundle.
        files: What its manifest says of them.
        target: The directory; nothing is written outside of it, and nothing that is there is replaced.
        names: Which files.

    Returns:
        Where they lie now, in the order of `names`.

    Raises:
        BundleError: if one is not there or another one; those before it have been written.
    """
    written = []
    for name in names:
        place = target.joinpath(*check_name(name, archive.path).split("/"))
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as out:
            for block in checked_blocks(archive, name, files[name]):
                out.write(block)
        written.append(place)
    return written
