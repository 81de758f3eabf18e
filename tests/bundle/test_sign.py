from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.bundle import Check, sign_bundle, verify_bundle
from edgekit.bundle import verify as module
from edgekit.bundle.write import pack_tree
from edgekit.errors import BundleError
from tests.conftest import Answer

serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization", reason="needs cryptography")


@pytest.fixture(autouse=True)
def _unrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_variant", lambda *args: Check("variant", True, "not run in this test"))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A private and a public key."""
    return make_pair(tmp_path, "own")


def make_pair(place: Path, name: str) -> tuple[Path, Path]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private, public = place / f"{name}.pem", place / f"{name}.pub"
    encoding, none = serialization.Encoding.PEM, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, none))
    public.write_bytes(key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def fault(bundle: Path, public: Path) -> str:
    return next((c.detail for c in verify_bundle(bundle, public_key=public).faults), "")


def test_a_signed_bundle_is_verified(bundle: Path, pair: tuple[Path, Path], cli: Callable[..., Answer]) -> None:
    private, public = pair
    assert fault(bundle, public) == "it is not signed: manifest.sig is not there"
    answer = cli("sign", bundle, "--key", private, "--json")
    assert answer.code == 0, answer.err
    fingerprint = answer.json()["key"]
    assert len((bundle / "manifest.sig").read_bytes()) == 64
    verdict = verify_bundle(bundle, public_key=public)
    signature = next(c for c in verdict.checks if c.what == "signature")
    assert (signature.passed, signature.detail) == (True, f"by the owner of key {fingerprint}")
    unasked = next(c for c in verify_bundle(bundle).checks if c.what == "signature")
    assert (unasked.passed, unasked.detail) == (None, "signed, not checked: give --key")


def test_a_zip_is_signed_and_stays_the_same_otherwise(bundle: Path, pair: tuple[Path, Path]) -> None:
    private, public = pair
    out = bundle.with_suffix(".zip")
    pack_tree(bundle, out)
    sign_bundle(out, private)
    once = out.read_bytes()
    sign_bundle(out, private)
    assert out.read_bytes() == once
    assert fault(out, public) == ""
    assert {p.name for p in out.parent.iterdir()} == {"digits", "digits.zip", "own.pem", "own.pub"}


def test_another_key_and_a_changed_manifest_are_found(bundle: Path, pair: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = pair
    sign_bundle(bundle, private)
    assert "is not of this key, or the manifest was changed" in fault(bundle, make_pair(tmp_path, "other")[1])
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, "license": "mine"}))
    assert "is not of this key, or the manifest was changed" in fault(bundle, public)
    signature = (bundle / "manifest.sig").read_bytes()
    (bundle / "manifest.sig").write_bytes(signature[:-1])
    assert fault(bundle, public) == "manifest.sig has 63 bytes, and a signature has 64"


def test_what_is_not_whole_is_not_signed(bundle: Path, pair: tuple[Path, Path]) -> None:
    (bundle / "README.md").write_text("other")
    with pytest.raises(BundleError, match=r"README\.md .*; a bundle that is not whole is not signed"):
        sign_bundle(bundle, pair[0])
    assert not (bundle / "manifest.sig").exists()


def test_keys_that_cannot_be_used(bundle: Path, pair: tuple[Path, Path], tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

    private, public = pair
    with pytest.raises(BundleError, match="cannot be read"):
        sign_bundle(bundle, tmp_path / "nothing.pem")
    with pytest.raises(BundleError, match="is no private key in PEM"):
        sign_bundle(bundle, public)
    with pytest.raises(BundleError, match="is private; verify with the public one"):
        verify_bundle(bundle, public_key=private)
    with pytest.raises(BundleError, match="is no public key in PEM"):
        verify_bundle(bundle, public_key=bundle / "README.md")
    key = generate_private_key(SECP256R1())
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (tmp_path / "ec.pem").write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    with pytest.raises(BundleError, match="edgekit signs by Ed25519"):
        sign_bundle(bundle, tmp_path / "ec.pem")
    locked = key.private_bytes(encoding, form, serialization.BestAvailableEncryption(b"secret"))
    (tmp_path / "locked.pem").write_bytes(locked)
    with pytest.raises(BundleError, match="has a password"):
        sign_bundle(bundle, tmp_path / "locked.pem")
