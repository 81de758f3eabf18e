"""The table that compares variants with the base: the same cells for the terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgekit.recipe import BASE
from edgekit.recipe.floor import shortfalls
from edgekit.report.figures import human_bytes, percent_or_value

COLUMNS = ("model", "on", "metric (test)", "drop", "size", "smaller", "p50 latency", "faster", "notes")


@dataclass(frozen=True)
class Comparison:
    """One line of the table, ready to print.

    Attributes:
        model: Name of the variant.
        cells: One text for each of COLUMNS.
        best: Whether this is the chosen variant.
        is_base: Whether this is the uncompressed model.
    """

    model: str
    cells: tuple[str, ...]
    best: bool
    is_base: bool


def comparison_lines(report: Mapping[str, Any]) -> list[Comparison]:
    """The lines of a report: one a model, provider and batch size."""
    return [_line(report, model, row) for model in report["models"] for row in model["bench"]]


def setting_of(row: Mapping[str, Any]) -> str:
    """Provider and batch of a row, as a person says it."""
    return f"{row['provider']}, batch {row['batch']}"


def _line(report: Mapping[str, Any], model: Mapping[str, Any], row: Mapping[str, Any]) -> Comparison:
    quality, drop, base = model["metric"]["test"], model["drop"]["test"], model["name"] == BASE
    unit, gain = quality["unit"], row["speedup"]
    cells = (
        model["name"],
        setting_of(row),
        metric_text(quality),
        "" if base else drop_text(drop, unit),
        human_bytes(model["size_bytes"]),
        "" if base else f"{model['size_ratio']:.2f}x",
        f"{row['latency_ms']['p50']:.3f} ms",
        "" if base else _speedup(gain),
        _notes(report, model),
    )
    return Comparison(model["name"], cells, model["name"] == report["best"], base)


def _interval(ci95: Any, unit: str) -> str:
    low, high = (100 * b if unit == "" else b for b in ci95)
    return f"{low:.1f}, {high:.1f}" if unit == "" else f"{low:.4g}, {high:.4g}"


def metric_text(quality: Mapping[str, Any]) -> str:
    """A metric with its interval."""
    unit = quality["unit"]
    return f"{percent_or_value(quality['value'], unit)} [{_interval(quality['ci95'], unit)}]"


def drop_text(drop: Mapping[str, Any], unit: str) -> str:
    """How much worse, in points of a share or in the metric's unit."""
    points = f"{100 * drop['value']:+.2f}" if unit == "" else f"{drop['value']:+.4g}"
    return points if drop["ci95"] is None else f"{points} [{_interval(drop['ci95'], unit)}]"


def _speedup(gain: Mapping[str, Any]) -> str:
    interval = gain["ci95"]
    return f"{gain['ratio']:.2f}x" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else " [n/a]")


def _notes(report: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    notes = []
    if model["name"] == report["best"]:
        notes.append("best")
    accept = report["recipe"]["accept"]
    notes += shortfalls(model, accept, "test") if accept else []
    unchanged = ["unchanged"] if any(s.get("changed") is False for s in model["steps"]) else []
    return "; ".join(notes + unchanged)


def why_unchanged(report: Mapping[str, Any]) -> list[str]:
    """One sentence for each step that changed nothing: too long for a table."""
    return [
        f"{model['name']}: {step['technique']} changed nothing: {step['reason']}"
        for model in report["models"]
        for step in model["steps"]
        if step.get("changed") is False
    ]
