"""Foreign .npz files: what is none is told by one of the errors that are caught."""

from __future__ import annotations

import io
import random
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgekit.runtime.arrays import ARRAY_ERRORS, members_of, read_npz


def npz(header: str, version: bytes = b"\x01\x00") -> bytes:
    """An archive with one member of this header."""
    length = len(header).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY" + version + length + header.encode() + bytes(64))
    return packed.getvalue()


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2**70,), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (9223372036854775807, 9223372036854775807), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }",
        "{'descr': 'zz', 'fortran_order': False, 'shape': (2,), }",
        "{",
        "(" * 400,
        "x\n  y\n z",
    ],
)
@pytest.mark.parametrize("version", [b"\x01\x00", b"\x02\x00", b"\x03\x00"])
def test_made_up_headers(tmp_path: Path, header: str, version: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(npz(header, version))
    with pytest.raises(ARRAY_ERRORS):
        read_npz(tmp_path / "a.npz")


def test_flipped_bytes(tmp_path: Path) -> None:
    packed = io.BytesIO()
    np.savez_compressed(packed, a=np.arange(200.0).reshape(10, 20), s=np.array(["x", "yy"]))
    rng, failed = random.Random(0), 0
    for _ in range(300):
        content = bytearray(packed.getvalue())
        for _ in range(rng.choice((1, 2, 20))):
            content[rng.randrange(len(content))] = rng.randrange(256)
        (tmp_path / "a.npz").write_bytes(bytes(content))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy takes some headers for those of Python 2
            try:
                read_npz(tmp_path / "a.npz")
            except ARRAY_ERRORS:
                failed += 1
    assert failed > 200


def test_members_that_are_left_out_are_not_looked_at(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones(3), labels=np.array([{}]))
    with np.load(tmp_path / "a.npz") as archive:
        found = members_of(archive, left_out=("labels",))
    assert {name: array.tolist() for name, array in found.items()} == {"x": [1.0, 1.0, 1.0]}
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        read_npz(tmp_path / "a.npz")
