"""Timing decides no test: measured as ever, but a slower verdict of a busy machine chooses nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.bench import Verdict
from edgekit.search.proof import Judge, Latency


@pytest.fixture(autouse=True)
def timing_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = Judge.latency

    def latency(self: Judge, candidate: Path) -> Latency:
        found = measure(self, candidate)
        return replace(found, verdict=str(Verdict.NO_DIFFERENCE)) if found.slower else found

    monkeypatch.setattr(Judge, "latency", latency)
