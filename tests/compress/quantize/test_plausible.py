from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgekit.compress.quantize.calibration import observe
from edgekit.compress.quantize.plausible import doubts, share_at_top
from edgekit.compress.quantize.static import StaticConfig, plan_static
from edgekit.data.split import Split
from tests.compress.quantize.nets import images, mobile_block

NAMES = ["clip1", "clip3", "clip5"]


def scaled(data: Split, factor: float) -> Split:
    return replace(data, arrays={k: v * np.float32(factor) for k, v in data.arrays.items()})


def test_natural_data_raises_no_doubt() -> None:
    assert doubts(observe(mobile_block(activation="Clip"), images(16), NAMES), NAMES) == []


def test_pixels_that_were_not_normalised_fill_the_first_clip() -> None:
    (found,) = doubts(observe(mobile_block(activation="Clip"), scaled(images(16), 255), NAMES), NAMES)
    assert found == "most values of clip1 sit at the upper bound of their Clip"


def test_dead_activations_are_named() -> None:
    seen = observe(mobile_block(), images(4), ["relu1"])
    seen["relu1"].update(np.zeros((1, 24, 2, 2), np.float32))
    dead = {f"dead{i}": type(seen["relu1"])() for i in range(4)}
    assert doubts({**seen, **dead}, []) == ["4 of 5 activations are zero on every sample (dead0, dead1, dead2 …)"]


def test_share_at_top() -> None:
    seen = observe(mobile_block(activation="Clip"), scaled(images(4), 1000), ["clip1"])["clip1"]
    assert share_at_top(seen) > 0.9


def test_static_quantisation_warns(capsys: pytest.CaptureFixture[str]) -> None:
    plan_static(StaticConfig(), mobile_block(activation="Clip"), scaled(images(16), 255))
    said = " ".join(capsys.readouterr().err.split())
    assert "calibration data looks unlike what the model was trained on" in said
    plan_static(StaticConfig(), mobile_block(activation="Clip"), images(16))
    assert capsys.readouterr().err == ""
