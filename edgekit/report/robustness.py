"""The table of how well models hold against adversarial examples: the same cells for terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("model", "after", "clean", "attacked", "lost to the base")
CAUTION = (
    "The examples were made once on the float model, which is fully known (white box); compressed models see the same "
    "ones, so theirs is a transfer attack: one made on themselves might find more."
)


def robust_title(report: Mapping[str, Any]) -> str:
    """What the table shows.

    >>> attack = {"attack": "pgd", "epsilon": 0.03, "steps": 20}
    >>> robust_title({"metric": "top1", "robust": {"attack": attack, "samples": 1000}})
    'top1 under attack (pgd, epsilon 0.03, 20 steps), on 1000 test samples'
    """
    found = report["robust"]
    attack = found["attack"]
    steps = f", {attack['steps']} steps" if attack["attack"] == "pgd" else ""
    how = f"{attack['attack']}, epsilon {attack['epsilon']:g}{steps}"
    return f"{report['metric']} under attack ({how}), on {found['samples']} test samples"


def robust_lines(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The cells of each line; none where the recipe asked for no attack."""
    found = report.get("robust")
    return [_cells(stage, first=index == 0) for index, stage in enumerate(found["stages"])] if found else []


def robust_markdown(report: Mapping[str, Any]) -> list[str]:
    """The section of the report; empty where there is none."""
    lines = robust_lines(report)
    if not lines:
        return []
    table = ["| " + " | ".join(line) + " |" for line in (COLUMNS, *lines)]
    return [
        "",
        "## Robustness",
        "",
        f"{robust_title(report)}.",
        "",
        table[0],
        "|---|---|---:|---:|---:|",
        *table[1:],
        "",
        CAUTION,
    ]


def robust_table(report: Mapping[str, Any]) -> Table | None:
    """For the terminal; None where there is nothing to show."""
    from rich import box
    from rich.table import Table

    lines = robust_lines(report)
    if not lines:
        return None
    table = Table(title=robust_title(report), title_justify="left", box=box.HORIZONTALS, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("model", "after") else "right")
    for line in lines:
        table.add_row(*(cell.replace("[", "\\[") for cell in line))
    return table


def _cells(stage: Mapping[str, Any], *, first: bool) -> tuple[str, ...]:
    clean, attacked, drop = stage["clean"], stage["attacked"], stage["drop"]
    low, high = (100 * b for b in attacked["ci95"])
    return (
        stage["model"],
        stage["step"],
        f"{100 * clean['value']:.2f} %",
        f"{100 * attacked['value']:.2f} % [{low:.1f}, {high:.1f}]",
        "" if first else _lost(drop),
    )


def _lost(drop: Mapping[str, Any]) -> str:
    low, high = (100 * b for b in drop["ci95"])
    return f"{100 * drop['value']:+.2f} [{low:.1f}, {high:.1f}]"
