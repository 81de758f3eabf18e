"""One bundle, the same numbers in Python, the browser, Node and C."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.runtime import load
from tests.samples.conftest import Program

_SAMPLES = 4
Numbers = dict[str, list[float]]


@pytest.fixture(scope="module")
def manifest(digits_bundle: Path) -> dict[str, Any]:
    return json.loads((digits_bundle / "manifest.json").read_text())


@pytest.fixture(scope="module")
def golden(digits_bundle: Path, manifest: dict[str, Any]) -> Numbers:
    """What the bundle says, as a program that knows its files reads it."""
    return {
        f"{variant} {start} {index}": np.fromfile(digits_bundle / entry["logits"]["file"], "<f4").tolist()
        for variant, outputs in manifest["golden"]["outputs"].items()
        for index, entry in enumerate(outputs)
        for start in ("input", "picture")
    }


def _in_python(bundle: Path, manifest: dict[str, Any]) -> Numbers:
    found: Numbers = {}
    for variant in manifest["golden"]["outputs"]:
        with load(bundle, variant=variant) as model:
            for index, sample in enumerate(manifest["golden"]["samples"]):
                image = np.fromfile(bundle / sample["inputs"]["image"]["file"], "<f4").reshape(1, 1, 8, 8)
                found[f"{variant} input {index}"] = model.run({"image": image})["logits"][0].tolist()
                found[f"{variant} picture {index}"] = model.predict(bundle / sample["raw"]).outputs["logits"].tolist()
    return found


def _said(program: Program, bundle: Path, *args: str) -> Numbers:
    said = program(bundle, *args, "--json")
    assert said.code == 0, said.out + said.err
    told = json.loads(said.out)
    rows = told["golden"] if isinstance(told, dict) else told
    return {row["name"]: row["outputs"]["logits"] for row in rows}


@pytest.mark.parametrize("place", ["python", "node", "c", "browser"])
def test_one_bundle_gives_the_same_numbers(
    place: str, digits_bundle: Path, manifest: dict[str, Any], golden: Numbers, request: pytest.FixtureRequest
) -> None:
    if place == "python":
        found = _in_python(digits_bundle, manifest)
    else:
        args = [] if place == "browser" else ["--golden"]
        found = _said(request.getfixturevalue(f"{place}_sample"), digits_bundle, *args)
    assert found.keys() == golden.keys()
    assert len(found) == 2 * 2 * _SAMPLES
    for name, numbers in found.items():
        tolerance = manifest["golden"]["tolerance"][name.split()[0]]
        np.testing.assert_allclose(
            numbers, golden[name], rtol=tolerance["relative"], atol=tolerance["absolute"], err_msg=f"{place}: {name}"
        )
        assert np.argmax(numbers) == np.argmax(golden[name])


def test_what_is_drawn_in_the_browser_is_answered_as_in_python(
    browser_sample: Program, digits_bundle: Path, manifest: dict[str, Any], tmp_path: Path
) -> None:
    said = browser_sample(digits_bundle, "--json", "--drawing", tmp_path / "drawn.png")
    shown = {label: float(number.removesuffix(" %")) for label, number in json.loads(said.out)["bars"]}
    tolerance = manifest["golden"]["tolerance"][manifest["variants"][0]["name"]]["absolute"]
    with load(digits_bundle) as model:
        answer = model.predict(tmp_path / "drawn.png", top=10)
    assert sum(shown.values()) == pytest.approx(100, abs=1)
    for candidate in answer.top:
        # a probability moves by at most half of what the logits do, and the page rounds to tenths
        assert shown[candidate.label] == pytest.approx(100 * candidate.score, abs=100 * tolerance + 0.051)
