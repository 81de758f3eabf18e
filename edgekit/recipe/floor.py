"""What a variant must keep, and what it lacks of that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# Where a recipe asks for nothing: a point of a share, a hundredth of anything else.
_USUAL_POINTS, _USUAL_SHARE = 0.01, 0.01


def shortfalls(model: Mapping[str, Any], accept: Mapping[str, Any] | None, split: str) -> list[str]:
    """What a model misses on a split, one text each; [] if it may be taken.

    Args:
        model: As results.json holds it: `metric` with drift, and `drop` against the base.
        accept: What a recipe asks for; None for what is usual.
        split: "validation" to choose by, "test" to report.
    """
    metric, drop = model["metric"][split], model["drop"][split]["value"]
    return list(_missed(metric, drop, accept if accept is not None else _usual(metric)))


def _usual(metric: Mapping[str, Any]) -> dict[str, Any]:
    """A hundredth of a distance says nothing; what has a drift keeps its metric by another measure."""
    return {"max_drop": _USUAL_POINTS} if metric["unit"] == "" else {"max_relative_drop": _USUAL_SHARE}


def _missed(metric: Mapping[str, Any], drop: float, accept: Mapping[str, Any]) -> Iterator[str]:
    most, share, least_db = (accept.get(k) for k in ("max_drop", "max_relative_drop", "min_snr"))
    if most is not None and drop > most:
        allowed = f"{100 * most:.2f} points" if metric["unit"] == "" else f"{most:g} {metric['unit']}"
        yield f"misses the floor of {allowed}"
    if share is not None:
        base = abs(base_value(metric, drop))
        if drop > share * base:
            yield f"loses {100 * drop / base if base else float('inf'):.2f} %, more than {100 * share:g} %"
    if least_db is not None and metric.get("drift", {}).get("value", float("inf")) < least_db:
        yield f"drifts to {metric['drift']['value']:.1f} dB, below {least_db:g} dB"


def base_value(metric: Mapping[str, Any], drop: float) -> float:
    """The base's value of the metric, from this model's and what it lost."""
    return float(metric["value"]) + (drop if metric["higher_is_better"] else -drop)
