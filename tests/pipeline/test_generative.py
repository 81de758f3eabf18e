from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.pipeline import Report, run_recipe
from edgekit.recipe import load_recipe

COMMON = "data: digits\nsize: pico\nbench: {min_seconds: 0.02, threads: 1}\nreport: {pictures: false}\n"


def run(text: str, place: Path) -> Report:
    (place / "r.yaml").write_text(COMMON + text)
    return run_recipe(load_recipe(place / "r.yaml"), place / "out")


def test_a_vae_from_nothing_to_a_report(tmp_path: Path) -> None:
    report = run(
        "name: v\nfamily: vae\ntrain: {epochs: 3, batch_size: 64}\nvariants: {int8: [{quantize: static}]}\n"
        "accept: {max_relative_drop: 0.01, min_snr: 25}\n",
        tmp_path,
    )
    base, int8 = (m.metric["test"] for m in report.models)
    assert base["name"] == "elbo"
    assert base["unit"] == "nats"
    assert set(base["also"]) == {"pixel-error"}
    assert base["drift"]["value"] == 200  # against itself
    assert int8["drift"]["value"] > 25
    assert abs(int8["value"] - base["value"]) < 0.01 * abs(base["value"])
    assert report.baseline is not None
    assert report.baseline["name"] == "PCA of 8 components"
    terms = report.baseline["terms"]
    assert terms["likelihood"] - terms["divergence"] == pytest.approx(base["value"], rel=1e-6)
    page = (tmp_path / "out" / "report.md").read_text()
    assert "- baseline: elbo -" in page
    assert "no divergence is charged to PCA" in page
    assert "snr " in page


@pytest.mark.slow
def test_a_gan_from_nothing_to_a_report(judges: Path, tmp_path: Path) -> None:
    report = run(
        "name: g\nfamily: gan\ntrain: {epochs: 12, batch_size: 64, learning_rate: 2e-3, ema: 0.9}\n"
        "variants: {int8: [{quantize: weights}]}\naccept: {min_snr: 25}\n",
        tmp_path,
    )
    base, int8 = (m.metric["test"] for m in report.models)
    assert base["name"] == "frechet"
    assert set(base["also"]) == {"precision", "recall"}
    assert report.baseline is not None
    assert base["value"] < 0.8 * report.baseline["metric"]["value"]
    assert int8["drift"]["value"] > 25
    assert report.accepted is True
    assert "of the untrained network" in (tmp_path / "out" / "report.md").read_text()
