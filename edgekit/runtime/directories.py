"""A bundle that is a directory: links, devices and too many files are refused, and what `runtime.names` refuses."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO

from edgekit.errors import BundleError
from edgekit.runtime.archive import MANIFEST, Archive
from edgekit.runtime.names import Limits, check_files


class DirectoryArchive(Archive):
    """A bundle that is a directory."""

    def open(self, name: str) -> IO[bytes]:
        """A file, to be read; a link that took its place meanwhile is not followed."""
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        return os.fdopen(os.open(self.path / name, flags), "rb")


def open_directory(path: Path, limits: Limits) -> DirectoryArchive:
    """Look at a directory's list of files, and refuse what no honest bundle has.

    Args:
        path: A directory.
        limits: What it may be at most.

    Raises:
        BundleError: if it has no manifest, or breaks a rule; the message names the file.
    """
    if not (path / MANIFEST).exists():
        raise BundleError(f"{path} is no bundle: it has no {MANIFEST}; make one with edgekit pack")
    return DirectoryArchive(path, _listed(path, limits))


def _listed(root: Path, limits: Limits) -> dict[str, int]:
    """File -> bytes, of a directory without links."""
    try:
        sizes = _sizes_under(root, limits)
    except OSError as error:
        raise BundleError(f"bundle {root}: {error.filename} cannot be read ({error.strerror}); mend that") from error
    check_files(root, sizes, limits)
    return sizes


def _sizes_under(root: Path, limits: Limits) -> dict[str, int]:
    sizes: dict[str, int] = {}
    folders = [root]
    while folders:
        for entry in sorted(os.scandir(folders.pop()), key=lambda e: e.name):
            name = Path(entry.path).relative_to(root).as_posix()
            kind = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(kind.st_mode):
                folders.append(Path(entry.path))
            elif not stat.S_ISREG(kind.st_mode):
                raise BundleError(f"bundle {root}: {name} is a link or a device; copy the file itself into the bundle")
            else:
                sizes[name] = kind.st_size
            if len(sizes) + len(folders) > limits.files:
                raise BundleError(f"bundle {root} has more than {limits.files:,} files; it is not one of edgekit")
    return sizes
