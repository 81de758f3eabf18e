from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgekit.errors import BusyError, OutputError
from edgekit.files import (
    check_output,
    digest,
    locked,
    make_directory,
    replacing,
    replacing_directory,
    sha256_of,
    sweep,
    write_json,
    write_text,
)

Tree = Callable[[Path], dict[str, str]]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a tmpfs with options; skipped where that is not allowed."""
    places: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path / f"mount-{len(places)}"
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
        places.append(place)
        return place

    if sys.platform != "linux":
        pytest.skip("needs a tmpfs, which only Linux mounts")
    yield mount
    for place in places:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_hash_and_digest(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest({"a": 1, "b": [2, 3]}) == digest({"b": [2, 3], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_a_written_file_is_whole_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "a.json"
    write_json(path, {"ä": 1})
    assert json.loads(path.read_text(encoding="utf-8")) == {"ä": 1}
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_failure_leaves_what_was_there(tmp_path: Path, tree: Tree) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    before = tree(tmp_path)

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            (temporary.parent / "a.data").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert tree(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_companions_move_with_the_file(tmp_path: Path) -> None:
    with replacing(tmp_path / "m.onnx") as temporary:
        temporary.write_text("model")
        (temporary.parent / "m.onnx.data").write_text("weights")
        assert list(tmp_path.glob("m.onnx*")) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]


def test_a_link_as_output_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("kept")
    link.symlink_to(target)
    write_text(link, "new")
    assert (target.read_text(), link.read_text()) == ("kept", "new")


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_stale_temporaries_are_swept_and_those_in_use_kept(tmp_path: Path) -> None:
    stale, used, foreign = (tmp_path / f".a.{owner}.tmp" for owner in (dead_pid(), os.getpid(), "notes"))
    for directory in (stale, used, foreign):
        directory.mkdir()
        (directory / "half").touch()
    sweep(tmp_path)
    assert [d.exists() for d in (stale, used, foreign)] == [False, True, True]


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from edgekit.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); print('ready', flush=True); time.sleep(60)"
    )
    path = tmp_path / "a.txt"
    path.write_text("old")
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == "ready\n"
        writer.kill()
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    write_text(path, "new")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["new"]


def test_full_disk(mounted: Callable[[str], Path]) -> None:
    place = mounted("size=64k")
    (place / "a.bin").write_bytes(b"old")
    with pytest.raises(OutputError) as error, replacing(place / "a.bin") as temporary:
        temporary.write_bytes(b"x" * 200_000)
    assert str(error.value) == (
        f"cannot write {place / 'a.bin'}: the disk is full; free some space or choose another place"
    )
    assert [(p.name, p.read_bytes()) for p in place.iterdir()] == [("a.bin", b"old")]


def test_read_only_place(mounted: Callable[[str], Path]) -> None:
    place = mounted("ro")
    with pytest.raises(OutputError) as error:
        write_text(place / "a.txt", "new")
    assert str(error.value) == (f"cannot write {place / 'a.txt'}: the file system is read-only; choose another place")
    with pytest.raises(OutputError, match="the file system is read-only"):
        make_directory(place / "deep" / "er")
    with pytest.raises(OutputError, match="the file system is read-only"), locked(place):
        pass


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs POSIX permissions, which root ignores")
def test_no_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="no permission to write there; choose another place"):
            write_text(tmp_path / "a.txt", "new")
    finally:
        tmp_path.chmod(0o700)


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    for path in (file / "a.txt", file / "deep" / "a.txt"):
        with pytest.raises(OutputError) as error:
            write_text(path, "new")
        assert str(error.value).startswith("cannot write ")
        assert "choose another place" in str(error.value) or "name a directory" in str(error.value)
    with pytest.raises(OutputError, match="it is a file; name a directory"), locked(file):
        pass
    assert file.read_text() == "kept"


def test_output_that_is_a_directory(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="it is a directory; name a file"):
        check_output(tmp_path)
    with pytest.raises(OutputError, match="it is a directory; name a file"):
        write_text(tmp_path, "new")


def test_output_that_is_the_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, link, hard = tmp_path / "m.onnx", tmp_path / "link.onnx", tmp_path / "hard.onnx"
    source.write_text("model")
    link.symlink_to(source)
    hard.hardlink_to(source)
    monkeypatch.chdir(tmp_path)
    for out in (source, link, hard, Path("m.onnx"), Path("x/../m.onnx")):
        with pytest.raises(OutputError) as error:
            check_output(out, source)
        assert str(error.value) == (
            f"output {out} is the input {source}; edgekit never overwrites its input, name another file"
        )
    check_output(tmp_path / "other.onnx", source)


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="name is too long"):
        write_text(tmp_path / ("x" * 300), "new")


def test_a_directory_is_busy_for_others_and_free_afterwards(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgekit.files import locked\n"
        "with locked(Path(sys.argv[1])): print('ready', flush=True); sys.stdin.read()"
    )
    place = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(place)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "ready\n"
        started = time.monotonic()
        with pytest.raises(BusyError) as error, locked(place):
            pass
        assert time.monotonic() - started < 1
        assert str(error.value) == (
            f"{place} is busy: another edgekit is working in it; wait for it or name another directory"
        )
        holder.send_signal(signal.SIGKILL)
    with locked(place):  # a killed holder holds nothing
        pass


def test_a_directory_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    place = tmp_path / "d"
    place.mkdir()
    (place / "old").write_text("old")
    with pytest.raises(FileNotFoundError), replacing_directory(place) as tree:
        (tree / "missing" / "new").write_text("new")
    assert [p.name for p in tmp_path.rglob("*")] == ["d", "old"]
    with replacing_directory(place) as tree:
        (tree / "new").write_text("new")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["d", "new"]


def test_a_directory_that_cannot_take_its_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, real = tmp_path / "d", os.replace
    place.mkdir()
    (place / "old").write_text("old")

    def refuse(source: Path, target: Path) -> None:
        if Path(source).name.endswith(".tmp") and ".before." not in Path(source).name:
            raise OSError(errno.ENOSPC, "no space")
        real(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OutputError, match="the disk is full"), replacing_directory(place) as tree:
        (tree / "new").write_text("new")
    assert [p.name for p in tmp_path.rglob("*")] == ["d", "old"]
