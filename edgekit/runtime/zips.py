"""A bundle that is a zip: refused for what its directory says, before anything in it is unpacked.

Format: APPNOTE.TXT 6.3.10.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO

from edgekit.errors import BundleError, brief
from edgekit.runtime.archive import GET_AGAIN, MANIFEST, Archive
from edgekit.runtime.names import Limits, check_files, check_name

_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ZIP_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError),
    *(NotImplementedError, RuntimeError, OSError, OverflowError),
)


class ZipArchive(Archive):
    """A bundle that is a zip.

    Args:
        path: Where it lies.
        packed: The same file, opened.
    """

    errors = ZIP_ERRORS

    def __init__(self, path: Path, packed: zipfile.ZipFile) -> None:
        super().__init__(path, {i.filename: i.file_size for i in packed.infolist() if not i.is_dir()})
        self._packed = packed

    def open(self, name: str) -> IO[bytes]:
        """A file, to be read; its CRC is checked at its end."""
        return self._packed.open(name)

    def close(self) -> None:
        """Let go of the file."""
        self._packed.close()


def open_zip(path: Path, limits: Limits) -> Archive:
    """Look at a zip's list of files, and refuse what no honest bundle has.

    Args:
        path: A file.
        limits: What it may be at most.

    Raises:
        BundleError: if it is no whole zip or breaks a rule; the message names the file.
    """
    try:
        packed = zipfile.ZipFile(path)
    except ZIP_ERRORS as error:
        raise BundleError(
            f"{path} is no whole zip file ({brief(error, 160)}); a bundle is a directory or a .zip: {GET_AGAIN}"
        ) from error
    try:
        _check_members(path, packed.infolist(), limits)
    except BundleError:
        packed.close()
        raise
    return ZipArchive(path, packed)


def _check_members(path: Path, members: list[zipfile.ZipInfo], limits: Limits) -> None:
    if len(members) > limits.files:
        raise BundleError(f"bundle {path} has more than {limits.files:,} files; it is not one of edgekit")
    sizes: dict[str, int] = {}
    for member in members:
        _check_member(path, member, limits)
        if not member.is_dir():
            if member.filename in sizes:
                raise BundleError(f"bundle {path} has {member.filename} twice; do not use this bundle")
            sizes[member.filename] = member.file_size
    offsets, size = [m.header_offset for m in members], path.stat().st_size
    if sum(m.compress_size for m in members) > size or max(offsets, default=0) > size:
        raise BundleError(f"bundle {path}: its files overlap, or its end is missing; {GET_AGAIN}")
    if min(offsets, default=0):  # another kind of file too, which other programs take it for
        raise BundleError(f"bundle {path} has {min(offsets):,} bytes before its first file; {GET_AGAIN}")
    check_files(path, sizes, limits)
    if MANIFEST not in sizes:
        raise BundleError(f"{path} is no bundle: it has no {MANIFEST} at its top; {_hint(sizes)}")


def _hint(names: dict[str, int]) -> str:
    inner = next((name for name in names if name.endswith("/" + MANIFEST)), None)
    return "make one with edgekit pack" if inner is None else f"zip what is in {inner.removesuffix(MANIFEST)} itself"


def _check_member(path: Path, member: zipfile.ZipInfo, limits: Limits) -> None:
    name, mode = member.orig_filename, member.external_attr >> 16
    check_name(name.removesuffix("/"), path, limits)
    reason = ""
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        reason = "is a link or a device"
    elif member.flag_bits & 1:
        reason = "is encrypted by the zip; edgekit encrypts models itself"
    elif member.compress_type not in _PACKINGS:
        reason = "is packed by a method other than store and deflate"
    elif member.file_size > max(limits.unsuspicious_bytes, limits.ratio * member.compress_size):
        reason = f"unpacks to more than {limits.ratio} times its size"
    if reason:
        raise BundleError(f"bundle {path}: {name} {reason}; do not use this bundle")
