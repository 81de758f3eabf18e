"""A bundle's files, wherever they lie."""

from __future__ import annotations

from pathlib import Path

from edgekit.errors import BundleError
from edgekit.runtime.archive import Archive
from edgekit.runtime.directories import open_directory
from edgekit.runtime.names import Limits


def open_archive(path: Path, limits: Limits | None = None) -> Archive:
    """Look at a bundle's list of files, and refuse what no honest bundle has.

    Args:
        path: A directory or a .zip.
        limits: What it may be at most.

    Raises:
        BundleError: if it is not there, is neither, or breaks a rule; the message names the file.
    """
    if path.is_dir():
        return open_directory(path, limits or Limits())
    if not path.is_file():
        state = "is neither a directory nor a file" if path.exists() else "is not there"
        raise BundleError(f"bundle {path} {state}; name a directory or a .zip that edgekit pack made")
    from edgekit.runtime.zips import open_zip  # zipfile takes time to import, and a directory does without it

    return open_zip(path, limits or Limits())
