"""samples/node: a bundle in a zip, and one whose model is encrypted."""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.runtime.seal import ALGORITHM, new_bundle_id, seal
from tests.samples import bundles
from tests.samples.conftest import SAMPLES, Program, run

KEY = bytes(range(32))
MODEL = "models/echo/model.onnx"


@pytest.fixture(scope="module")
def packed(echo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle as a zip, deflated."""
    return Path(shutil.make_archive(str(tmp_path_factory.mktemp("zip") / "b"), "zip", echo_bundle))


def rewritten(packed: Path, out: Path, changes: dict[str, bytes]) -> Path:
    """Another zip with other content of some files; what is there no more is None."""
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in [n for n in old.namelist() if not n.endswith("/")]:
            new.writestr(name, changes.get(name, old.read(name)))
    return out


def test_a_zip_is_read_as_its_directory(node_sample: Program, echo_bundle: Path, packed: Path, tmp_path: Path) -> None:
    stored = tmp_path / "stored.zip"
    with zipfile.ZipFile(stored, "w", zipfile.ZIP_STORED) as out:
        for file in sorted(p for p in echo_bundle.rglob("*") if p.is_file()):
            out.write(file, file.relative_to(echo_bundle).as_posix())
        out.comment = b"a comment"
    wanted = node_sample(echo_bundle, "--golden")
    for place in (packed, stored):
        said = node_sample(place, "--golden")
        assert (said.code, said.out, said.err) == (0, wanted.out, "")


def _cut(content: bytes) -> bytes:
    return content[:-30]


def _no_zip(content: bytes) -> bytes:
    return b"no zip"


def _offset(content: bytes) -> bytes:
    """The list of files is said to lie behind the end."""
    return content[:-6] + struct.pack("<I", 1 << 30) + content[-2:]


def _noise(content: bytes) -> bytes:
    """The packed bytes of the manifest are others."""
    at = content.index(b"manifest.json") + len(b"manifest.json")
    return content[: at + 5] + bytes(200) + content[at + 205 :]


_BROKEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut": (_cut, "is no whole zip file"),
    "no zip": (_no_zip, "is no whole zip file"),
    "offset": (_offset, "is no whole zip file"),
    "noise": (_noise, "manifest.json cannot be unpacked ("),
}


@pytest.mark.parametrize("case", _BROKEN)
def test_a_broken_zip_is_one_line(node_sample: Program, packed: Path, tmp_path: Path, case: str) -> None:
    spoil, words = _BROKEN[case]
    (tmp_path / "b.zip").write_bytes(spoil(packed.read_bytes()))
    _is_refused(node_sample, tmp_path / "b.zip", words)


def _is_refused(node_sample: Program, place: Path, words: str) -> None:
    said = node_sample(place, "--golden")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"error: {place}")
    assert words in said.err
    assert said.err.count("\n") == 1


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_no_honest_zip_has_is_refused(node_sample: Program, packed: Path, tmp_path: Path) -> None:
    twice = Path(shutil.copy(packed, tmp_path / "twice.zip"))
    with zipfile.ZipFile(twice, "a") as out:
        out.writestr(MODEL, b"another")
    _is_refused(node_sample, twice, f"has {MODEL} twice; do not use this bundle")
    bomb = Path(shutil.copy(packed, tmp_path / "bomb.zip"))
    with zipfile.ZipFile(bomb, "a", zipfile.ZIP_DEFLATED) as out:
        out.writestr("zeros.bin", bytes(8 << 20))
    _is_refused(node_sample, bomb, "zeros.bin unpacks to more than 200 times its size; do not use this bundle")
    lzma = Path(shutil.copy(packed, tmp_path / "lzma.zip"))
    with zipfile.ZipFile(lzma, "a", zipfile.ZIP_LZMA) as out:
        out.writestr("other.bin", b"bytes")
    _is_refused(node_sample, lzma, "other.bin is packed by a method other than store and deflate")
    bare = tmp_path / "bare.zip"
    with zipfile.ZipFile(bare, "w") as out:
        out.writestr("other.bin", b"bytes")
    _is_refused(node_sample, bare, "has no file manifest.json")


def test_a_changed_file_in_a_zip_is_found(node_sample: Program, packed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed) as old:
        model = old.read(MODEL)
    changed = rewritten(packed, tmp_path / "b.zip", {MODEL: model[:-1] + b"\0"})
    said = node_sample(changed, "--golden")
    assert said.code == 1
    assert said.err == f"error: {MODEL} is not the file that was packed: its sha256 differs from the manifest's\n"


def test_a_zip_may_say_any_nonsense(packed: Path, tmp_path: Path, node_sample: Program) -> None:
    """Each of its bytes is another in turn: what follows is an answer or a BundleError."""
    script = """
import { readFileSync } from "node:fs";
const { BundleError, openZip } = await import(process.argv[1]);
const whole = readFileSync(process.argv[2]);
let refused = 0;
for (let at = 0; at < whole.length; at += 7) {
  const bytes = Uint8Array.from(whole);
  bytes[at] ^= 0xff;
  try {
    await openZip(bytes, "b.zip")("manifest.json");
  } catch (error) {
    if (!(error instanceof BundleError) || error.message.includes("\\n")) throw error;
    refused++;
  }
}
console.log(refused);
"""
    said = run("node", "--input-type=module", "-e", script, (SAMPLES / "javascript/index.mjs").as_uri(), packed)
    assert said.code == 0, said.err
    assert int(said.out) > 20


@pytest.fixture
def sealed(echo_bundle: Path, tmp_path: Path) -> Path:
    """The bundle with its model encrypted."""
    pytest.importorskip("cryptography")
    place = Path(shutil.copytree(echo_bundle, tmp_path / "sealed"))
    name, file = new_bundle_id(), MODEL + ".enc"
    (place / file).write_bytes(seal((place / MODEL).read_bytes(), KEY, name, file))
    (place / MODEL).unlink()
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["variants"][0] |= {"file": file, "encrypted": {"algorithm": ALGORITHM, "bundle_id": name}}
    bundles.seal(place, manifest)
    return place


def test_an_encrypted_model_opens_with_its_key(
    node_sample: Program, sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "hex").write_text(KEY.hex() + "\n")
    monkeypatch.setenv("ECHO_KEY", KEY.hex())
    packed = shutil.make_archive(str(tmp_path / "b"), "zip", sealed)
    for place, given in (
        (sealed, ("--key-file", tmp_path / "key")),
        (packed, ("--key-file", tmp_path / "hex")),
        (sealed, ("--key-env", "ECHO_KEY")),
    ):
        said = node_sample(place, "--golden", *given)
        assert (said.code, said.err) == (0, ""), said.err


def test_without_its_key_nothing_opens(node_sample: Program, sealed: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(KEY[::-1])
    (tmp_path / "short").write_bytes(b"abc")
    for given, words in (
        ((), "bundle echo does not run here: echo: it is encrypted, and there is no key"),
        (
            ("--key-file", tmp_path / "other"),
            "does not open with this key: it is another key, or the file is of anothe",
        ),
        (
            ("--key-file", tmp_path / "short"),
            "holds 3 bytes that are no key; a key is 32 bytes, or 64 hexadecimal digi",
        ),
        (("--key-env", "NO_SUCH_KEY"), "environment variable NO_SUCH_KEY is not set"),
    ):
        said = node_sample(sealed, "--golden", *given)
        assert (said.code, said.out) == (1, "")
        assert said.err.startswith("error: ")
        assert words in said.err
        assert said.err.count("\n") == 1
