"""Small models and a bundle of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgekit.bundle import Candidate, PackOptions, pack_bundle


@pytest.fixture(scope="session")
def variants(pico_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Candidate, ...]:
    """The pico CNN, with weights in int8 and as it is; only to be read."""
    from edgekit.compress import OnnxStep, weights

    small = tmp_path_factory.mktemp("variants") / "small.onnx"
    weights.quantize_weights(weights.WeightsConfig(), OnnxStep(pico_onnx, small))
    return (Candidate("small", small), Candidate("base", pico_onnx))


@pytest.fixture(scope="session")
def packed(variants: tuple[Candidate, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of both, in a directory; only to be read."""
    place = tmp_path_factory.mktemp("bundle") / "digits"
    pack_bundle(variants, place, PackOptions(data="digits", license="MIT", description="Reads digits."))
    return place


@pytest.fixture
def bundle(packed: Path, tmp_path: Path) -> Path:
    """A copy of that bundle, to be changed."""
    return Path(shutil.copytree(packed, tmp_path / "digits"))
