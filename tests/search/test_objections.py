"""Why a candidate may not be chosen."""

from __future__ import annotations

from edgekit.search.attempt import objection
from edgekit.search.proof import Latency, Proof, Quality

QUALITY = Quality("top1", 1.0, 1.0, 0.0, None, False, 10, "d", True)


def proof(before: int, after: int, verdict: str) -> Proof:
    return Proof(before, after, QUALITY, Latency(1.0, 1.25, 0.8, (0.78, 0.82), verdict, "cpu"))


def test_slower_is_refused() -> None:
    assert objection(proof(100, 25, "SLOWER")) == "slower than the original (0.80x as fast)"


def test_noise_and_no_difference_are_not() -> None:
    assert objection(proof(100, 25, "NO DIFFERENCE")) == objection(proof(100, 25, "TOO NOISY")) == ""


def test_what_is_no_smaller_is_refused() -> None:
    assert objection(proof(100, 100, "FASTER")) == "not smaller than the original"
