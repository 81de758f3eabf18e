"""Who gives a public key gets answers from bundles that its owner signed, and from no others."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgekit.errors import BundleError, MissingPackageError
from edgekit.runtime import load
from edgekit.runtime.single import loader_source
from tests.conftest import Answer
from tests.runtime.bundles import write_bundle, zipped

_KEY, _OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(32))), Ed25519PrivateKey.from_private_bytes(bytes(32))


def public_pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    place = write_bundle(tmp_path / "b")
    (place / "manifest.sig").write_bytes(_KEY.sign((place / "manifest.json").read_bytes()))
    return place


@pytest.fixture
def public(tmp_path: Path) -> Path:
    (tmp_path / "key.pub").write_bytes(public_pem(_KEY))
    return tmp_path / "key.pub"


def test_what_the_owner_signed_is_loaded(bundle: Path, public: Path) -> None:
    packed = zipped(bundle, bundle.with_suffix(".zip"))
    for given in (public, str(public), public.read_bytes(), public.read_text()):
        for place in (bundle, packed):
            with load(place, public_key=given) as model:
                assert model.variant.name == "base"


def _unsign(bundle: Path) -> None:
    (bundle / "manifest.sig").unlink()


def _cut(bundle: Path) -> None:
    (bundle / "manifest.sig").write_bytes(bytes(63))


def _sign_by_another(bundle: Path) -> None:
    (bundle / "manifest.sig").write_bytes(_OTHER.sign((bundle / "manifest.json").read_bytes()))


def _change_manifest(bundle: Path) -> None:
    told = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**told, "license": "mine"}))


def _break_manifest(bundle: Path) -> None:
    """Nothing of it is read before its signature."""
    (bundle / "manifest.json").write_text('{"schema_version": 99')


_BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "unsigned": (_unsign, "it is not signed: manifest.sig is not there; get it from who"),
    "cut": (_cut, "manifest.sig has 63 bytes, and a signature has 64"),
    "another key": (_sign_by_another, "the signature is not of this key, or the manifest was changed"),
    "changed": (_change_manifest, "the signature is not of this key, or the manifest was changed"),
    "broken": (_break_manifest, "the signature is not of this key, or the manifest was changed"),
}


@pytest.mark.parametrize("case", _BAD)
def test_any_other_is_refused(bundle: Path, public: Path, case: str, cli: Callable[..., Answer]) -> None:
    spoil, words = _BAD[case]
    spoil(bundle)
    with pytest.raises(BundleError, match=words) as refused:
        load(bundle, public_key=public)
    answer = cli("predict", bundle, "x.npy", "--key", public)
    assert (answer.code, answer.err) == (1, f"error: {refused.value}\n")


def test_a_changed_model_of_a_signed_bundle_is_refused(bundle: Path, public: Path) -> None:
    model = bundle / "models/base/model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\x00")
    with pytest.raises(BundleError, match="was changed: its SHA-256 is"):
        load(bundle, public_key=public)


_NO_PUBLIC_KEYS: dict[str, tuple[Any, str]] = {
    "key of encrypted models": (bytes(range(32)), "the public key is no public key in PEM; the key of encrypted"),
    "no PEM": ("-----BEGIN PUBLIC KEY-----\nx\n", "the public key is no public key in PEM"),
    "no file": ("gone.pub", "key gone.pub cannot be read"),
}


@pytest.mark.parametrize("case", _NO_PUBLIC_KEYS)
def test_what_is_no_public_key(bundle: Path, case: str) -> None:
    given, words = _NO_PUBLIC_KEYS[case]
    with pytest.raises(BundleError, match=words):
        load(bundle, public_key=given)


def test_a_public_key_opens_no_encrypted_model(bundle: Path, public: Path, cli: Callable[..., Answer]) -> None:
    answer = cli("predict", bundle, "x.npy", "--key-file", public)
    assert answer.code == 1
    assert "key.pub is a public key, which checks signatures: load(..., public_key=...) or --key" in answer.err


def test_the_command_answers_from_a_signed_bundle(
    bundle: Path, public: Path, tmp_path: Path, cli: Callable[..., Answer]
) -> None:
    np.save(tmp_path / "x.npy", np.ones((1, 1, 8, 8), np.float32))
    answer = cli("predict", bundle, tmp_path / "x.npy", "--key", public, "--json")
    assert answer.code == 0, answer.err


def test_cryptography_is_needed_with_a_key_only(bundle: Path, public: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.split(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    with load(bundle) as model:
        assert model.variant.name == "base"
    with pytest.raises(MissingPackageError, match="signatures need the cryptography package"):
        load(bundle, public_key=public)


def test_the_single_file_and_the_script_take_it(bundle: Path, public: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((1, 1, 8, 8), np.float32))
    shutil.copy(public, bundle.parent / "own.pub")
    (tmp_path / "loader.py").write_text(loader_source(), encoding="utf-8")
    code = "import sys; from pathlib import Path; from loader import main; sys.exit(main(sys.argv[1:], Path('b')))"
    words = ["x.npy", "--key", "own.pub"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (bundle / "manifest.sig").unlink()
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert (
        done.stderr
        == "error: bundle b: it is not signed: manifest.sig is not there; get it from who has the key's other half\n"
    )
