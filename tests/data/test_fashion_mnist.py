from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.data import fashion_mnist
from edgekit.data.fashion_mnist import DEBIAN, PARTS, fingerprint, load, locate
from edgekit.errors import DataError

_HERE = all((DEBIAN / p.name).is_file() for p in PARTS.values())
needs_files = pytest.mark.skipif(
    not _HERE, reason=f"Fashion-MNIST is not in {DEBIAN}; apt-get install dataset-fashion-mnist"
)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The two small files as they are, and links to the large ones."""
    for part in PARTS.values():
        target = tmp_path / part.name
        if part.size_bytes > 1_000_000:
            target.symlink_to(DEBIAN / part.name)
        else:
            shutil.copyfile(DEBIAN / part.name, target)
    return tmp_path


@pytest.mark.slow
@needs_files
def test_shapes_labels_and_the_published_test_split() -> None:
    data = load()
    shapes = {name: split.arrays["image"].shape for name, split in data.splits.items()}
    assert shapes == {
        "train": (52_000, 1, 28, 28),
        "calibration": (2_048, 1, 28, 28),
        "validation": (5_952, 1, 28, 28),
        "test": (10_000, 1, 28, 28),
    }
    test = data.splits["test"]
    assert test.labels is not None
    assert np.bincount(test.labels).tolist() == [1000] * 10
    assert test.labels[:5].tolist() == [9, 2, 1, 1, 6]
    assert abs(float(data.splits["train"].arrays["image"].mean())) < 0.01
    hashes = [{hash(row.tobytes()) for row in s.arrays["image"]} for s in data.splits.values()]
    assert not set.intersection(*hashes)


@needs_files
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda packed: packed[: len(packed) // 2], "is not a readable gzip file (Compressed file ended"),
        (lambda packed: b"<html>moved</html>", "is not a readable gzip file (Not a gzipped file"),
        (lambda packed: b"", "holds other data than train-labels-idx1-ubyte.gz should; get it again"),
        (lambda packed: gzip.compress(b"\0" * 60_008), "holds other data than train-labels-idx1-ubyte.gz should"),
        (lambda packed: gzip.compress(b"\0" * 50_000_000), "holds other data than train-labels-idx1-ubyte.gz should"),
        (lambda packed: packed[:20] + b"\xff" * 99 + packed[119:], "is not a readable gzip file (Error -3"),
        (lambda packed: packed[:-8] + b"\0" * 8, "is not a readable gzip file (CRC check failed"),
    ],
    ids=["cut short", "HTML", "empty", "other bytes", "a bomb", "damaged bytes", "a wrong checksum"],
)
def test_damaged_files(copy: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    path = copy / "train-labels-idx1-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError) as error:
        load(copy)
    assert str(error.value).startswith(f"data 'fashion-mnist': {path} ")
    assert message in str(error.value)


def test_a_directory_that_lacks_files_is_told_which(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").touch()
    with pytest.raises(DataError) as error:
        locate(tmp_path)
    assert str(error.value) == (
        f"data 'fashion-mnist': {tmp_path} lacks train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, "
        "t10k-labels-idx1-ubyte.gz"
    )


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without the files, and with a download that nobody answers."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "debian")
    monkeypatch.setattr(fashion_mnist, "_cache", lambda: cache)
    monkeypatch.setattr(fashion_mnist, "URL", "http://127.0.0.1:9/")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return cache


def test_a_failed_download_says_what_was_tried(offline: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        load()
    said = str(error.value)
    assert f"is not in {tmp_path / 'debian'} nor in {offline}, and the download failed" in said
    assert "Connection refused" in said
    assert "apt-get install dataset-fashion-mnist" in said
    assert not list(offline.glob("*")) if offline.exists() else True


@needs_files
def test_a_download_is_checked_and_kept(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "URL", f"file://{DEBIAN}/")
    assert locate() == offline
    assert sorted(p.name for p in offline.iterdir()) == sorted(p.name for p in PARTS.values())
    monkeypatch.setattr(fashion_mnist, "URL", "http://127.0.0.1:9/")
    assert locate() == offline  # from the cache


def test_a_download_of_something_else_is_not_kept(
    offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = tmp_path / "served"
    served.mkdir()
    for part in PARTS.values():
        (served / part.name).write_bytes(gzip.compress(b"not this"))
    monkeypatch.setattr(fashion_mnist, "URL", f"file://{served}/")
    with pytest.raises(DataError, match="holds other data than train-images-idx3"):
        locate()
    assert list(offline.iterdir()) == []


def test_the_fingerprint_needs_no_files() -> None:
    assert fingerprint(Path("nowhere")).count(" ") == len(PARTS)
