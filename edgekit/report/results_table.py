"""Many runs of recipes in one table, with the command, machine and date of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.recipe import BASE
from edgekit.report.comparison import comparison_lines
from edgekit.report.figures import percent_or_value
from edgekit.report.further import base_lines
from edgekit.report.text import model_of

COLUMNS = (
    "model",
    "metric (test)",
    "drop",
    "further",
    "size",
    "smaller",
    "p50 latency",
    "faster",
    "notes",
)


@dataclass(frozen=True)
class RecipeRun:
    """One run of a recipe.

    Attributes:
        report: Content of its results.json.
        command: What was typed.
        date: When the models were measured, as YYYY-MM-DD.
        training_seconds: What training took, when it ran.
    """

    report: Mapping[str, Any]
    command: str
    date: str
    training_seconds: float


def results_table(runs: Sequence[RecipeRun], made_by: str) -> str:
    """The runs as Markdown: one section each, one row a model, at the first provider and batch of the recipe.

    Args:
        runs: In the order of the sections.
        made_by: The command that writes the table.
    """
    lines = ["# What the recipes come to", "", f"Written by `{made_by}`; nothing here is typed by hand."]
    lines += ["Metrics are of test data that nothing was chosen on; brackets hold 95 % intervals, those of drops and"]
    lines += ["speed-ups are paired. Times are of the machine that the section names, models in turns."]
    for run in runs:
        lines += ["", *_section(run)]
    return "\n".join(lines) + "\n"


def _section(run: RecipeRun) -> list[str]:
    report = run.report
    first = report["models"][0]["bench"][0]
    took = f"{run.training_seconds / 60:.1f} min" if run.training_seconds >= 60 else f"{run.training_seconds:.0f} s"
    trained = f" in {took}" if report["training"].get("history") else ""
    threads = f"{first['threads']} thread{'s'[: first['threads'] > 1]}"
    lines = [
        f"## {report['name']}",
        "",
        f"`{run.command}`, {run.date}: {model_of(report)}{trained}; "
        f"{first['provider']}, batch {first['batch']}, {threads} of {report['machine']['cpu']}",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
    ]
    compared = {line.model: line for line in reversed(comparison_lines(report))}  # the first setting of each model
    for model in report["models"]:
        name, _, metric, drop, size, smaller, latency, faster, notes = compared[model["name"]].cells
        cells = (name, metric, drop, _further(model), size, smaller, latency, faster, notes.replace("|", "/"))
        lines.append("| " + " | ".join(f"**{c}**" if compared[name].best and c else c for c in cells) + " |")
    beside = base_lines(report)
    return [*lines, "", *beside] if beside else lines


def _further(model: Mapping[str, Any]) -> str:
    """The metrics beside the one that decides; the base has no drift from itself."""
    quality = model["metric"]["test"]
    drift = quality.get("drift") if model["name"] != BASE else None
    found = [*quality.get("also", {}).values(), *([drift, *drift.get("also", {}).values()] if drift else [])]
    said = [f"{m['name']} {percent_or_value(m['value'], m['unit'])}" for m in found]
    if writing := model.get("generation"):
        said.append(f"{writing['tokens_per_second']:.1f} tokens/s")
    return ", ".join(said)
