"""What each link of a variant's chain costs: the same cells for the terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from edgekit.report.comparison import metric_text
from edgekit.report.figures import human_bytes, human_count, percent_or_value

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("variant", "after", "validation", "test", "size", "parameters", "MACs")
TITLE = "Link by link"


def chain_lines(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One line for the base and one for each link of each variant that has several; none where none has."""
    lines = [line for model in report["models"] if _links(model) > 1 for line in _chain(model)]
    return [*_base(report["models"]), *lines] if lines else []


def chain_notes(report: Mapping[str, Any]) -> list[str]:
    """What each step on a torch model did, and each that removed something of a file, in a sentence."""
    return [
        f"{model['name']}: {step['technique']}: {step['reason']}"
        for model in report["models"]
        for step in model["steps"]
        if {"links", "macs"} & set(step.get("details", {}))
    ]


def chain_markdown(report: Mapping[str, Any]) -> list[str]:
    """The section of the report; empty where there is none."""
    lines = chain_lines(report)
    table = ["| " + " | ".join(line) + " |" for line in (COLUMNS, *lines)]
    ruler = "|---|---|" + "---:|" * (len(COLUMNS) - 2)
    notes = [f"- {note}" for note in chain_notes(report)]
    return ["", f"## {TITLE}", "", table[0], ruler, *table[1:], "", *notes] if lines else []


def chain_table(report: Mapping[str, Any]) -> Table | None:
    """For the terminal; None where there is nothing to show."""
    from rich import box
    from rich.table import Table

    lines = chain_lines(report)
    if not lines:
        return None
    table = Table(title=TITLE.lower(), title_justify="left", box=box.HORIZONTALS, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("variant", "after") else "right")
    for line in lines:
        table.add_row(*(cell.partition(" [")[0] for cell in line))
    return table


def _links(model: Mapping[str, Any]) -> int:
    return sum(max(1, len(step.get("details", {}).get("links", ()))) for step in model["steps"])


def _base(models: list[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    costs = [step["details"] for model in models for step in model["steps"] if "macs" in step.get("details", {})]
    first = models[0]
    yield (
        first["name"],
        "",
        *_values(first["metric"]),
        human_bytes(first["size_bytes"]),
        *_cost(costs[0] if costs else {}, "before"),
    )


def _chain(model: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for index, step in enumerate(model["steps"]):
        details, last = step["details"], index == len(model["steps"]) - 1
        named = [step["technique"], *(f"… {link['name']}" for link in details.get("links", ())[1:])]
        unit = model["metric"]["test"]["unit"]
        for name, link in zip(named, details.get("links", ()), strict=False):
            if name != named[-1]:
                yield (model["name"], name, percent_or_value(link["validation"], unit), *[""] * 4)
        yield (
            model["name"],
            named[-1],
            *_values(step.get("metric", model["metric"])),
            human_bytes(step.get("size_bytes", model["size_bytes"] if last else 0)),
            *_cost(details, "after"),
        )


def _values(metric: Mapping[str, Any]) -> tuple[str, str]:
    validation = metric["validation"]
    return percent_or_value(validation["value"], validation["unit"]), metric_text(metric["test"])


def _cost(details: Mapping[str, Any], when: str) -> tuple[str, str]:
    both = (details.get(name, {}).get(when) for name in ("parameters", "macs"))
    parameters, macs = ("" if count is None else human_count(count) for count in both)
    return parameters, macs
