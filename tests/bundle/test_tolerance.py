from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import tolerance
from edgekit.bundle.tolerance import largest_difference, measure_tolerance
from edgekit.ort import Session


def test_a_tolerance_covers_the_rounding_of_eleven_bits_and_no_wrong_input(dense_onnx: Path) -> None:
    feeds = {"image": np.random.default_rng(1).standard_normal((1, 1, 8, 8)).astype(np.float32)}
    session = Session(dense_onnx, threads=1)
    golden = session.run(feeds)
    found = measure_tolerance(dense_onnx, [feeds], [golden], [0])
    rounded = {"image": feeds["image"].astype(np.float16).astype(np.float32)}
    allowed = found["absolute"] + found["relative"] * np.abs(golden[0])
    assert np.all(np.abs(session.run(rounded)[0] - golden[0]) <= allowed)
    assert np.any(np.abs(session.run({"image": feeds["image"] * 1.1})[0] - golden[0]) > allowed)
    assert found["absolute"] < 0.02 * np.abs(golden[0]).max()


def test_differences_of_what_is_no_number() -> None:
    nan, inf = np.array([np.nan]), np.array([np.inf])
    assert largest_difference(nan, nan) == 0.0
    assert largest_difference(inf, inf) == 0.0
    assert largest_difference(nan, inf) == np.inf
    assert largest_difference(np.zeros(2), np.zeros(3)) == np.inf
    assert largest_difference(np.array([True]), np.array([False])) == 1.0


def test_a_graph_that_needs_its_optimisations_does_not_widen_the_tolerance(
    dense_onnx: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feeds = {"image": np.ones((1, 1, 8, 8), np.float32)}
    golden = Session(dense_onnx, threads=1).run(feeds)
    usual = measure_tolerance(dense_onnx, [feeds], [golden], [0])
    monkeypatch.setattr(tolerance, "_unoptimized", lambda path: [lambda feeds: [np.zeros_like(golden[0])]])
    assert measure_tolerance(dense_onnx, [feeds], [golden], [0]) == usual
    assert "dense.onnx computes something else without ONNX Runtime's optimisations" in capsys.readouterr().err
