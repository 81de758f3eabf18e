from __future__ import annotations

from typing import Any

import pytest

from edgekit.recipe.floor import base_value, shortfalls


def model(value: float, drop: float, *, unit: str = "nats", higher: bool = True, db: float | None = None) -> Any:
    metric: dict[str, Any] = {"value": value, "unit": unit, "higher_is_better": higher}
    if db is not None:
        metric["drift"] = {"value": db}
    return {"metric": {"test": metric}, "drop": {"test": {"value": drop}}}


@pytest.mark.parametrize(
    ("variant", "accept", "wanted"),
    [
        (model(0.90, 0.02, unit=""), {"max_drop": 0.01}, ["misses the floor of 1.00 points"]),
        (model(0.90, 0.01, unit=""), {"max_drop": 0.01}, []),
        (model(-101, 1.0), {"max_relative_drop": 0.01}, []),
        (model(-102, 2.0), {"max_relative_drop": 0.01}, ["loses 2.00 %, more than 1 %"]),
        (model(5.5, 0.5, higher=False), {"max_relative_drop": 0.05}, ["loses 10.00 %, more than 5 %"]),
        (model(3.0, 2.0), {"max_drop": 1.0}, ["misses the floor of 1 nats"]),
        (model(0.0, 0.0, db=24.0), {"min_snr": 25}, ["drifts to 24.0 dB, below 25 dB"]),
        (model(0.0, 0.0, db=25.0), {"min_snr": 25}, []),
        (model(0.0, 0.0), {"min_snr": 25}, []),
        (
            model(-110, 10.0, db=10.0),
            {"max_relative_drop": 0.01, "min_snr": 25},
            ["loses 10.00 %, more than 1 %", "drifts to 10.0 dB, below 25 dB"],
        ),
    ],
)
def test_what_a_variant_misses(variant: Any, accept: dict[str, float], wanted: list[str]) -> None:
    assert shortfalls(variant, accept, "test") == wanted


def test_what_is_usual_where_nothing_is_asked_for() -> None:
    assert shortfalls(model(0.90, 0.02, unit=""), None, "test") == ["misses the floor of 1.00 points"]
    assert shortfalls(model(-100.5, 0.5), None, "test") == []
    assert shortfalls(model(-103, 3.0), None, "test") == ["loses 3.00 %, more than 1 %"]


def test_the_bases_value() -> None:
    assert base_value({"value": -101, "higher_is_better": True}, 1.0) == -100
    assert base_value({"value": 6, "higher_is_better": False}, 1.0) == 5
