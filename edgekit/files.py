"""Files that appear whole or not at all, hashes, and locked directories."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from edgekit.errors import BusyError, OutputError

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space or choose another place",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another place",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.EACCES: "no permission to write there; choose another place",
    errno.EPERM: "no permission to write there; choose another place",
    errno.ENOTDIR: "a parent of it is a file; choose another place",
    errno.EBUSY: "it is in use, or the top of a mounted disk; name a directory inside it",
    errno.EISDIR: "it is a directory; name a file",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """SHA-256 of a value that JSON can hold, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write `path` into one clear OutputError."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0)
        if reason is None:
            raise
        raise OutputError(f"cannot write {path}: {reason}") from error


def make_directory(path: Path) -> Path:
    """Create a directory and its parents; an OutputError says why it cannot be."""
    with output_errors(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise OutputError(f"cannot write into {path}: it is a file; name a directory") from None
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path in a temporary sibling directory; on success it replaces `path` in one step.

    Files that the body writes beside the yielded path (external data) move along with it. When the body fails,
    `path` is as it was. Leftovers of processes that were killed are swept on the way.

    Raises:
        OutputError: when the operating system refuses (disk full, read-only, no permission).
    """
    make_directory(path.parent)
    sweep(path.parent)
    staging = path.parent / f".{path.name}.{os.getpid()}.tmp"
    with output_errors(path):
        try:
            staging.mkdir(exist_ok=True)
            yield staging / path.name
            written = sorted(staging.iterdir(), key=lambda p: p.name == path.name)
            for file in written:
                _flush_to_disk(file)
            for file in written:  # the named file last: it refers to the others
                os.replace(file, path.parent / file.name)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def replacing_directory(path: Path) -> Iterator[Path]:
    """Yield an empty sibling directory; on success it takes the place of `path`, which may be a directory or nothing.

    When the body fails, `path` is as it was.

    Raises:
        OutputError: when the operating system refuses (disk full, read-only, no permission).
    """
    make_directory(path.parent)
    sweep(path.parent)
    staging, before = (path.parent / f".{path.name}{part}.{os.getpid()}.tmp" for part in ("", ".before"))
    with output_errors(path):
        try:
            try:
                staging.mkdir()
            except FileNotFoundError:  # such as in /proc
                raise OutputError(f"cannot write {path}: no files can be made there; choose another place") from None
            yield staging
            for file in staging.rglob("*"):
                _flush_to_disk(file)
            if path.is_dir():
                os.replace(path, before)
            os.replace(staging, path)
        except BaseException:
            if before.exists() and not path.exists():
                os.replace(before, path)
            raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            shutil.rmtree(before, ignore_errors=True)


def sweep(directory: Path) -> None:
    """Remove temporary siblings whose process is gone."""
    for leftover in directory.glob(".*.tmp"):
        owner = leftover.name.split(".")[-2]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(leftover, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def check_output(out: Path, *inputs: Path) -> None:
    """Refuse an output that is one of the inputs, also through a link, or that is a directory."""
    if out.is_dir():
        raise OutputError(f"cannot write {out}: it is a directory; name a file")
    for source in inputs:
        same = out.exists() and source.exists() and os.path.samefile(out, source)
        if same or out.resolve() == source.resolve():
            raise OutputError(
                f"output {out} is the input {source}; edgekit never overwrites its input, name another file"
            )


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a directory for this process; a second edgekit gets a BusyError at once."""
    from filelock import FileLock, Timeout

    make_directory(directory)
    lock = FileLock(directory / ".edgekit.lock", timeout=0)
    try:
        with output_errors(directory):
            lock.acquire()
    except Timeout:
        raise BusyError(
            f"{directory} is busy: another edgekit is working in it; wait for it or name another directory"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _flush_to_disk(path: Path) -> None:
    if path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
