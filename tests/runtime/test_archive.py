"""Every way in which a bundle's files can be wrong has its line."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.errors import BundleError
from edgekit.runtime.archive import (
    FileEntry,
    extract_files,
    find_faults,
    read_checked,
    read_file,
)
from edgekit.runtime.names import Limits, check_name
from edgekit.runtime.opening import open_archive
from tests.runtime.bundles import write_bundle, zipped


def entry(content: bytes) -> FileEntry:
    return FileEntry(hashlib.sha256(content).hexdigest(), len(content))


def a_zip(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as packed:
        for name, content in (("manifest.json", b"{}"), *members):
            packed.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../a", "leads out of the bundle"),
        ("a/../../b", "leads out of the bundle"),
        ("/etc/passwd", "is not relative"),
        ("a\\b", "is not relative"),
        ("C:/a", "is not relative"),
        ("a:stream", "is not relative"),
        ("a//b", "is not the same name on every file system"),
        ("./a", "is not the same name on every file system"),
        ("a/", "is not the same name on every file system"),
        ("", "is not the same name on every file system"),
        ("a.", "is not the same name on every file system"),
        ("a ", "is not the same name on every file system"),
        *(
            (name, "is not the same name on every file system")
            for name in ("con.txt", "CON .txt", "com¹", "conin$", "a?")
        ),
        ("a\x00b", "is not the same name on every file system"),
        ("a\nb", "is not the same name on every file system"),
        ("\udcff", "is not the same name on every file system"),
        ("a" * 300, "is too long"),
    ],
)
def test_a_name_that_means_something_else_somewhere_is_refused(name: str, said: str) -> None:
    with pytest.raises(BundleError, match=said) as caught:
        check_name(name, "b")
    assert "\n" not in str(caught.value)


def test_plain_names_are_kept() -> None:
    for name in ("manifest.json", "models/int8/model.onnx", "golden/0.é.bin", ".hidden/a-b_c.d"):
        assert check_name(name, "b") == name


def test_a_directory_and_its_zip_hold_the_same(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    with open_archive(bundle) as folder, open_archive(zipped(bundle, tmp_path / "b.zip")) as packed:
        assert folder.sizes == packed.sizes
        for name in folder.sizes:
            content = read_file(packed, name, 1 << 20)
            assert read_checked(folder, name, entry(content)) == content
        assert not find_faults(
            packed, {"models/base/model.onnx": entry(read_file(folder, "models/base/model.onnx", 9999))}
        )


@pytest.mark.parametrize("name", ["../a", "/a", "c:/a", "a/../b", "models/"])
def test_a_zip_with_a_bad_name_is_refused(tmp_path: Path, name: str) -> None:
    path = a_zip(tmp_path / "b.zip", (name, b"x"))
    if name == "models/":  # a folder's own entry
        with open_archive(path) as packed:
            assert list(packed.sizes) == ["manifest.json"]
        return
    with pytest.raises(BundleError, match="do not use this bundle"):
        open_archive(path)


def test_a_backslash_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = a_zip(tmp_path / "b.zip", ("a/b", b"x"))
    path.write_bytes(path.read_bytes().replace(b"a/b", b"a\\b"))
    with pytest.raises(BundleError, match="is not relative"):
        open_archive(path)


def link(path: Path) -> Path:
    member = zipfile.ZipInfo("link")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return a_zip(path, (member, b"/etc/passwd"))


def twice(path: Path) -> Path:
    a_zip(path, ("a", b"1"), ("b", b"2"))
    path.write_bytes(path.read_bytes().replace(b"b2", b"a2").replace(b"\x00\x00b", b"\x00\x00a"))
    with zipfile.ZipFile(path) as packed:
        assert packed.namelist() == ["manifest.json", "a", "a"]
    return path


def encrypted(path: Path) -> Path:
    a_zip(path, ("a", b"1"))
    content = bytearray(path.read_bytes())
    central = content.rindex(b"PK\x01\x02")
    content[central + 8] |= 1
    path.write_bytes(content)
    return path


def overlapping(path: Path) -> Path:
    """Two entries that are the same bytes of the file."""
    a_zip(path, ("a", os.urandom(4000)), ("b", os.urandom(10)), method=zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    central = content.rindex(b"PK\x01\x02")
    content[central + 20 : central + 28] = (4000).to_bytes(4, "little") * 2
    path.write_bytes(content)
    return path


def behind_a_script(path: Path) -> Path:
    """A zip that a shell takes for a script."""
    content = a_zip(path, ("a", b"1")).read_bytes()
    path.write_bytes(b"#!/bin/sh\n" + content)
    return path


def far_away(path: Path) -> Path:
    """An entry whose 64-bit offset no file reaches."""
    content = bytearray(a_zip(path, ("a", b"1")).read_bytes())
    entry, end = content.rindex(b"PK\x01\x02"), content.rindex(b"PK\x05\x06")
    extra = struct.pack("<HHQ", 1, 8, 2**63 + 5)
    content[entry + 42 : entry + 46] = b"\xff" * 4
    content[entry + 30 : entry + 32] = struct.pack("<H", len(extra))
    content[end + 12 : end + 16] = struct.pack("<I", end - content.index(b"PK\x01\x02") + len(extra))
    content[end:end] = extra
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (link, "link is a link or a device"),
        (twice, "has a twice"),
        (encrypted, "a is encrypted by the zip"),
        (overlapping, "its files overlap"),
        (lambda p: a_zip(p, ("A", b"1"), ("a", b"2")), "has A and a, which are one file on some systems"),
        (lambda p: a_zip(p, ("é", b"1"), ("e\u0301", b"2")), r"has '\\xe9' and 'e\\u0301', which are one file on some"),
        (lambda p: a_zip(p, ("A/b", b"1"), ("a", b"2")), "has a and A/b, which are one file on some systems"),
        (lambda p: a_zip(p, ("a", b"1"), ("a/b/c", b"2")), "has a and a/b/c, which are one file on some systems"),
        (behind_a_script, "has 10 bytes before its first file"),
        (far_away, "its files overlap, or its end is missing"),
        (lambda p: a_zip(p, ("a", b"1"), method=zipfile.ZIP_BZIP2), "packed by a method other than"),
        (lambda p: a_zip(p, ("a", bytes(3 << 20))), "a unpacks to more than 200 times its size"),
        (lambda p: p, "is not there; name a directory or a .zip"),
    ],
)
def test_a_zip_that_no_honest_tool_writes_is_refused(tmp_path: Path, make: Callable[[Path], Path], said: str) -> None:
    path = make(tmp_path / "b.zip")
    with pytest.raises(BundleError, match=said) as caught:
        open_archive(path)
    assert "\n" not in str(caught.value)


def test_limits_of_number_and_size(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    for place in (bundle, zipped(bundle, tmp_path / "b.zip")):
        with pytest.raises(BundleError, match="has more than 1 files"):
            open_archive(place, Limits(files=1))
        with pytest.raises(BundleError, match="more than the limit of 1,000"):
            open_archive(place, Limits(total_bytes=1000))


def test_what_is_no_bundle_is_said(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"it has no manifest.json; make one with edgekit pack"):
        open_archive(tmp_path)
    inner = tmp_path / "inner.zip"
    with zipfile.ZipFile(inner, "w") as packed:
        packed.writestr("b/manifest.json", "{}")
    with pytest.raises(BundleError, match=r"no manifest.json at its top; zip what is in b/ itself"):
        open_archive(inner)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BundleError, match="pipe is neither a directory nor a file"):
        open_archive(tmp_path / "pipe")
    text = tmp_path / "b.txt"
    text.write_text("no zip")
    with pytest.raises(BundleError, match="is no whole zip file"):
        open_archive(text)


def test_a_zip_cut_anywhere_is_refused_or_damaged(tmp_path: Path) -> None:
    whole = zipped(write_bundle(tmp_path / "b"), tmp_path / "b.zip").read_bytes()
    for length in range(0, len(whole), 97):
        path = tmp_path / "cut.zip"
        path.write_bytes(whole[:length])
        with pytest.raises(BundleError):
            open_archive(path)


def test_a_changed_byte_anywhere_in_a_zip_is_noticed_or_harmless(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    whole = zipped(bundle, tmp_path / "b.zip").read_bytes()
    with open_archive(bundle) as folder:
        files = {n: entry(read_file(folder, n, 1 << 20)) for n in folder.sizes}
    noticed = 0
    for place in range(0, len(whole), 53):
        changed = bytearray(whole)
        changed[place] ^= 0x41
        path = tmp_path / "changed.zip"
        path.write_bytes(changed)
        try:
            with open_archive(path) as packed:
                noticed += bool(find_faults(packed, files))
        except BundleError:
            noticed += 1
    assert noticed > 0.9 * len(range(0, len(whole), 53))  # the rest are dates and the like


def test_links_in_a_directory_are_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    (bundle / "models/base/link").symlink_to("/etc/passwd")
    with pytest.raises(BundleError, match="models/base/link is a link or a device"):
        open_archive(bundle)
    (bundle / "models/base/link").unlink()
    (bundle / "loop").symlink_to(bundle)
    with pytest.raises(BundleError, match="loop is a link"):
        open_archive(bundle)


def test_what_is_no_file_in_a_directory_is_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    os.mkfifo(bundle / "models/pipe")
    with pytest.raises(BundleError, match="models/pipe is a link or a device"):
        open_archive(bundle)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "b")

    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("edgekit.runtime.directories.os.scandir", refuse)
    with pytest.raises(BundleError, match=r"b cannot be read \(Permission denied\)"):
        open_archive(bundle)


def test_a_link_that_takes_a_files_place_is_not_followed(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    with open_archive(bundle) as archive:
        (bundle / "manifest.json").unlink()
        (bundle / "manifest.json").symlink_to("/etc/hostname")
        with pytest.raises(BundleError, match=r"manifest.json cannot be read"):
            read_file(archive, "manifest.json", 1 << 20)


def test_every_fault_has_its_line(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    (bundle / "same").write_bytes(b"1234")
    (bundle / "longer").write_bytes(b"12345")
    (bundle / "extra").write_bytes(b"")
    files = {"same": entry(b"1235"), "longer": entry(b"1234"), "gone": entry(b"")}
    files["models/base/model.onnx"] = entry((bundle / "models/base/model.onnx").read_bytes())
    with open_archive(bundle) as archive:
        said = [fault.removeprefix(f"bundle {bundle}").lstrip(": ") for fault in find_faults(archive, files)]
    assert [line.split(";")[0] for line in said] == [
        "extra is not in its manifest",
        "has no file gone",
        "longer has 5 bytes, its manifest says 4",
        said[3].split(";")[0],
    ]
    assert said[3].startswith("same was changed: its SHA-256 is 03ac674216f3…")


def test_a_file_that_grows_meanwhile_is_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    with open_archive(bundle) as archive:
        with (bundle / "manifest.json").open("ab") as file:
            file.write(b" ")
        with pytest.raises(BundleError, match="is longer than the bundle says"):
            read_file(archive, "manifest.json", 1 << 20)


def test_extraction_stays_in_its_directory_and_replaces_nothing(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    name = "models/base/model.onnx"
    content = (bundle / name).read_bytes()
    out = tmp_path / "out"
    out.mkdir()
    with open_archive(zipped(bundle, tmp_path / "b.zip")) as packed:
        assert extract_files(packed, {name: entry(content)}, out, [name]) == [out / name]
        assert (out / name).read_bytes() == content
        with pytest.raises(FileExistsError):
            extract_files(packed, {name: entry(content)}, out, [name])
        with pytest.raises(BundleError, match="leads out"):
            extract_files(packed, {"../x": entry(b"")}, out, ["../x"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "b.zip", "out"]
