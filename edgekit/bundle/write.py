"""Writing a bundle: whole or not at all, the manifest last; a zip of the same tree gives the same bytes every time."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgekit.bundle.manifest import manifest_bytes
from edgekit.errors import OutputError
from edgekit.files import replacing, replacing_directory, sha256_of
from edgekit.runtime.archive import MANIFEST, SIGNATURE

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date that a zip can hold
_PACKED = (".json", ".md", ".txt", ".py")  # weights hardly get smaller, and stored files open faster


def is_zip(out: Path) -> bool:
    """Whether a bundle is to be one file."""
    return out.suffix.lower() == ".zip"


def check_place(out: Path) -> None:
    """Refuse to write over what is no bundle.

    Raises:
        OutputError: if something else is there.
    """
    if not out.exists() and not out.is_symlink():
        return
    fits = _holds_manifest(out) if is_zip(out) else _is_bundle_directory(out)
    if not fits:
        raise OutputError(
            f"cannot write {out}: it is there and is no bundle; name another place, or remove it yourself"
        )


def _is_bundle_directory(out: Path) -> bool:
    return out.is_dir() and not out.is_symlink() and ((out / MANIFEST).is_file() or not any(out.iterdir()))


def _holds_manifest(out: Path) -> bool:
    try:
        with zipfile.ZipFile(out) as packed:
            return MANIFEST in packed.namelist()
    except (zipfile.BadZipFile, OSError):
        return False


@contextmanager
def writing(out: Path) -> Iterator[Path]:
    """Yield an empty directory to write a bundle into; on success it takes the place of `out`, as a zip if that is one.

    Raises:
        OutputError: if the operating system refuses, or `out` is there and is no bundle; then nothing is changed.
    """
    check_place(out)
    if not is_zip(out):
        with replacing_directory(out) as tree:
            yield tree
        return
    with replacing(out) as packed:
        tree = packed.parent / "tree"
        tree.mkdir()
        yield tree
        pack_tree(tree, packed)
        shutil.rmtree(tree)


def pack_tree(tree: Path, out: Path) -> None:
    """Zip a directory: names sorted, the manifest last, no dates, no owners."""
    with zipfile.ZipFile(out, "w") as packed:
        for name in _names(tree):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED if Path(name).suffix in _PACKED else zipfile.ZIP_STORED
            info.external_attr, info.create_system = 0o100644 << 16, 3
            with packed.open(info, "w", force_zip64=True) as target, (tree / name).open("rb") as source:
                shutil.copyfileobj(source, target)


def _names(tree: Path) -> list[str]:
    """The files of a tree, those that speak for the others last."""
    names = (p.relative_to(tree).as_posix() for p in tree.rglob("*") if p.is_file())
    return sorted(names, key=lambda name: (name in (MANIFEST, SIGNATURE), name))


def place_files(tree: Path, copies: Mapping[str, Path], contents: Mapping[str, bytes]) -> None:
    """Put files into a tree: copies of others, and contents; a link is followed, so that the bundle has none."""
    for name, source in copies.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, tree / name)
    for name, content in contents.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)


def finish(tree: Path, manifest: Mapping[str, Any]) -> bytes:
    """Write the manifest over all files that are there; gives its bytes."""
    listed = {n: {"sha256": sha256_of(tree / n), "bytes": (tree / n).stat().st_size} for n in _names(tree)}
    content = manifest_bytes({**manifest, "files": listed})
    (tree / MANIFEST).write_bytes(content)
    return content
