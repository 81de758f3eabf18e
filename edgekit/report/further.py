"""What a report says beside the metric that decides: the baseline, further metrics, drift."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgekit.pipeline.floor import base_value
from edgekit.report.comparison import percent_or_value, why_unchanged


def further_lines(report: Mapping[str, Any]) -> list[str]:
    """One line for the baseline, one for each model that has more to tell, one for each step that changed nothing."""
    also = (line for model in report["models"] for line in _also(model))
    return [*_baseline(report), *also, *(f"- {reason}" for reason in why_unchanged(report))]


def lost(model: Mapping[str, Any]) -> str:
    """What a model loses on test data against the base, for a sentence; "" where nothing can be said."""
    metric, drop = model["metric"]["test"], model["drop"]["test"]["value"]
    if metric["unit"] == "":
        return f"{100 * drop:+.2f} points lost on test data"
    base = abs(base_value(metric, drop))
    return f"{100 * drop / base:+.2f} % of {metric['name']} lost on test data" if base else ""


def _baseline(report: Mapping[str, Any]) -> Iterator[str]:
    found = report.get("baseline")
    if not found:
        return
    base, beaten = report["models"][0]["metric"]["test"], found["metric"]
    terms = "".join(f", {name} {value:.4g}" for name, value in found.get("terms", {}).items())
    values = (percent_or_value(m["value"], m["unit"]) for m in (base, beaten))
    ours, theirs = values
    yield f"- baseline: {base['name']} {ours} (base{terms}) against {theirs} of {found['name']}; {found['note']}"


def _also(model: Mapping[str, Any]) -> Iterator[str]:
    metric = model["metric"]["test"]
    more = list(metric.get("also", {}).values())
    if model["name"] != "base" and "drift" in metric:
        more += [metric["drift"], *metric["drift"].get("also", {}).values()]
    said = ", ".join(f"{m['name']} {percent_or_value(m['value'], m['unit'])}" for m in more)
    if said:
        yield f"- {model['name']}: {said}"
