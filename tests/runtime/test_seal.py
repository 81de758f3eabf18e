from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import BundleError
from edgekit.runtime.seal import ALGORITHM, new_bundle_id, open_sealed, open_variant, read_key, seal

pytest.importorskip("cryptography", reason="needs cryptography")

KEY, BUNDLE, NAME = bytes(range(32)), "00" * 16, "models/a/model.onnx.enc"


def test_what_is_sealed_opens_with_the_key_alone() -> None:
    sealed = seal(b"weights", KEY, BUNDLE, NAME)
    assert len(sealed) == 12 + 7 + 16
    assert b"weights" not in sealed
    assert open_sealed(sealed, KEY, BUNDLE, NAME) == b"weights"
    assert seal(b"weights", KEY, BUNDLE, NAME)[:12] != sealed[:12]


@pytest.mark.parametrize(
    ("key", "bundle", "name"),
    [(bytes(32), BUNDLE, NAME), (KEY, "11" * 16, NAME), (KEY, BUNDLE, "models/b/model.onnx.enc")],
)
def test_another_key_bundle_or_place_does_not_open_it(key: bytes, bundle: str, name: str) -> None:
    sealed = seal(b"weights", KEY, BUNDLE, NAME)
    with pytest.raises(BundleError, match="does not open with this key"):
        open_sealed(sealed, key, bundle, name)


def test_a_changed_or_cut_file_does_not_open() -> None:
    sealed = seal(b"weights", KEY, BUNDLE, NAME)
    changed = [sealed[:i] + bytes([sealed[i] ^ 1]) + sealed[i + 1 :] for i in range(len(sealed))]
    for wrong in (*changed, sealed[:-1], sealed[:20], b""):
        with pytest.raises(BundleError, match="does not open with this key"):
            open_sealed(wrong, KEY, BUNDLE, NAME)


def test_keys_come_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, digits = tmp_path / "raw", tmp_path / "digits"
    raw.write_bytes(KEY)
    digits.write_text(KEY.hex() + "\n")
    monkeypatch.setenv("MODEL_KEY", KEY.hex().upper())
    assert read_key(raw, None) == read_key(digits, None) == read_key(None, "MODEL_KEY") == KEY
    assert read_key(None, None) is None


def test_what_is_no_key_is_refused_and_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "short").write_text("secret")
    with pytest.raises(BundleError, match="holds 6 bytes that are no key; a key is 32 bytes") as error:
        read_key(tmp_path / "short", None)
    assert "secret" not in str(error.value)
    with pytest.raises(BundleError, match="cannot be read"):
        read_key(tmp_path / "nothing", None)
    monkeypatch.delenv("MODEL_KEY", raising=False)
    with pytest.raises(BundleError, match="MODEL_KEY is not set"):
        read_key(None, "MODEL_KEY")


def test_a_variant_opens_as_the_manifest_says() -> None:
    bundle = new_bundle_id()
    sealed = seal(b"weights", KEY, bundle, NAME)
    how = {"algorithm": ALGORITHM, "bundle_id": bundle}
    assert open_variant(sealed, KEY.hex(), how, NAME) == open_variant(sealed, KEY, how, NAME) == b"weights"
    with pytest.raises(BundleError, match="is encrypted; give its key"):
        open_variant(sealed, None, how, NAME)
    with pytest.raises(BundleError, match="the key has 3 bytes"):
        open_variant(sealed, b"abc", how, NAME)
    with pytest.raises(BundleError, match="is encrypted by 'ROT13'; this edgekit opens AES-256-GCM"):
        open_variant(sealed, KEY, {"algorithm": "ROT13"}, NAME)
