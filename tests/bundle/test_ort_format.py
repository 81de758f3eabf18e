from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import Candidate, PackOptions, pack_bundle, verify_bundle
from edgekit.bundle.ort_format import convert_to_ort
from edgekit.errors import BundleError, ModelError
from edgekit.runtime import load


@pytest.fixture(scope="module")
def both(variants: tuple[Candidate, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with its variants in both formats; only to be read."""
    place = tmp_path_factory.mktemp("ort") / "B"
    pack_bundle(variants[1:], place, PackOptions(data="digits", ort=True))
    return place


def test_a_variant_in_ort_format_answers_as_the_onnx_file(both: Path) -> None:
    feeds = {"image": np.ones((2, 1, 8, 8), np.float32)}
    with load(both, variant="base") as plain, load(both, variant="base-ort") as other:
        assert other.variant.format == "ort"
        assert np.allclose(other.run(feeds)["logits"], plain.run(feeds)["logits"], atol=1e-5)
    assert not verify_bundle(both).faults


def test_the_manifest_tells_what_such_a_variant_needs(both: Path) -> None:
    import onnxruntime

    entry = json.loads((both / "manifest.json").read_text())["variants"][1]
    assert (entry["name"], entry["file"], entry["format"]) == ("base-ort", "models/base-ort/model.ort", "ort")
    assert onnxruntime.__version__.startswith(entry["minimum_onnxruntime"])
    assert entry["lineage"][-1]["step"].startswith("ORT format by ONNX Runtime")


def test_the_operators_of_a_reduced_build_are_listed(both: Path) -> None:
    text = (both / "required_operators.config").read_text()
    assert text.startswith("# Operators and types of: base\n")
    assert "com.microsoft;1;FusedConv" in text
    assert 'Gemm{"inputs": {"0": ["float"]}}' in text
    assert "/" not in text


def test_a_name_that_is_taken_and_a_file_that_is_no_model(variants: tuple[Candidate, ...], tmp_path: Path) -> None:
    path = variants[1].path
    with pytest.raises(BundleError, match="variant 'a-ort' is there already"):
        pack_bundle([Candidate("a", path), Candidate("a-ort", path)], tmp_path / "B", PackOptions(ort=True))
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match="cannot be written in ORT format"):
        convert_to_ort(tmp_path / "x.onnx", tmp_path / "x.ort")


def test_an_ort_file_is_sealed_like_the_others(variants: tuple[Candidate, ...], tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="needs cryptography")
    key = bytes(32)
    pack_bundle(variants[1:], tmp_path / "B", PackOptions(data="digits", ort=True, key=key))
    assert [p.name for p in (tmp_path / "B" / "models" / "base-ort").iterdir()] == ["model.ort.enc"]
    with load(tmp_path / "B", variant="base-ort", key=key) as model:
        assert model.run({"image": np.ones((1, 1, 8, 8), np.float32)})["logits"].shape == (1, 10)
