"""A sealed model opens in memory, and only with its key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cryptography")

from edgekit.errors import BundleError
from edgekit.runtime import load
from edgekit.runtime.seal import ALGORITHM, new_bundle_id, seal
from tests.conftest import Answer
from tests.runtime.bundles import dense_bytes, logits_of, manifest, variant, write_bundle

KEY = bytes(range(32))
FILE = "models/base/model.onnx.enc"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    name = new_bundle_id()
    how = {"algorithm": ALGORITHM, "bundle_id": name}
    files = {FILE: seal(dense_bytes(), KEY, name, FILE)}
    return write_bundle(tmp_path / "b", manifest([variant(file=FILE, encrypted=how)]), files)


def test_the_key_opens_it(bundle: Path) -> None:
    x = np.ones((1, 1, 8, 8), np.float32)
    for key in (KEY, KEY.hex()):
        with load(bundle, key=key) as model:
            np.testing.assert_allclose(model.run({"image": x})["logits"], logits_of(x), rtol=1e-5, atol=1e-5)
    assert dense_bytes()[:64] not in (bundle / FILE).read_bytes()
    assert [p.name for p in (bundle / "models/base").iterdir()] == ["model.onnx.enc"]


def test_without_it_nothing_opens(bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"model.onnx.enc is encrypted; give its key"):
        load(bundle)
    with pytest.raises(BundleError, match="does not open with this key: it is another key"):
        load(bundle, key=KEY[::-1])
    with pytest.raises(BundleError, match="the key has 3 bytes; AES-256-GCM takes 32"):
        load(bundle, key=b"abc")


def test_the_command_takes_it_from_a_file_or_the_environment(
    cli: Callable[..., Answer], bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", np.ones((1, 1, 8, 8), np.float32))
    (tmp_path / "key").write_text(KEY.hex())
    monkeypatch.setenv("TINY_KEY", KEY.hex())
    for given in (("--key-file", tmp_path / "key"), ("--key-env", "TINY_KEY")):
        answer = cli("predict", bundle, tmp_path / "x.npy", *given, "--json")
        assert answer.code == 0, answer.err
        assert KEY.hex() not in answer.out
    refused = cli("predict", bundle, tmp_path / "x.npy", "--key-env", "NO_SUCH")
    assert refused.code == 1
    assert "environment variable NO_SUCH is not set" in refused.err
