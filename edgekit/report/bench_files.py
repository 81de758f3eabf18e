"""A benchmark in files: CSV and Markdown to be read, and every recorded run to be worked with."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.files import replacing, write_text
from edgekit.report.benchmark import Findings, cold_rows, every_note, sheets
from edgekit.report.figures import machine_lines, short_names
from edgekit.report.sheets import markdown_table

# Tables within a row: JSON has them, and a cell of a CSV has no room.
_NOT_IN_CSV = ("operators", "inputs", "notes")


def bench_csv(findings: Findings) -> str:
    """One line a row, with the figures of JSON as `latency_ms.p50`; facts of the machine stand in every line.

    A line that stands alone can be appended to others, and a CSV has no place for what is said once.
    """
    machine = {f"machine.{key}": value for key, value in _flat(findings.report.machine)}
    lines = [dict(_flat(_without_tables(row.as_dict()))) | machine for row in findings.report.rows]
    columns = list(dict.fromkeys(key for line in lines for key in line if key not in machine)) + list(machine)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _without_tables(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in _NOT_IN_CSV}


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values; an interval becomes two, a list one text, None stays empty."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif "ci95" in name.rpartition(".")[2]:
        for end, bound in zip(("low", "high"), value or (None, None), strict=True):
            yield f"{name}.{end}", bound
    else:
        yield name, " ".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def bench_markdown(findings: Findings) -> str:
    """Every table, the command, and once the facts of the machine."""
    parts = [f"## {sheet.title}\n\n{markdown_table(sheet)}\n" + _caption(sheet.caption) for sheet in sheets(findings)]
    facts = [f"- {what}: {value}" for what, value in machine_lines(findings.report.machine)]
    facts += [f"- note: {note}" for note in every_note(findings)]
    if not findings.report.complete:
        facts.append("- stopped by the user; the rows hold what was recorded until then")
    command = [f"```sh\n{findings.command}\n```\n"] if findings.command else []
    return "\n".join([*parts, "## how it was measured\n", *command, *facts, ""])


def _caption(text: str) -> str:
    return f"\n{text[0].upper()}{text[1:]}.\n" if text else ""


def write_samples(path: Path, findings: Findings) -> None:
    """Keep every recorded run: in .json with the whole report, or in .npz as arrays `ms_0`, `rounds_0`, and so on.

    Args:
        path: Ends in .json or .npz; the .npz holds the report as JSON in `report`.
        findings: What was measured.
    """
    if path.suffix == ".json":
        write_text(path, json.dumps(findings.as_dict(samples=True), ensure_ascii=False, default=str) + "\n")
        return
    arrays = {"report": np.array(json.dumps(findings.as_dict(), ensure_ascii=False, default=str))}
    for number, row in enumerate(findings.report.rows):
        arrays |= {f"ms_{number}": row.samples.ms, f"rounds_{number}": row.samples.rounds}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def write_trace(path: Path, findings: Findings) -> None:
    """Write ONNX Runtime's traces as one for chrome://tracing or ui.perfetto.dev: a process a model and setting."""
    rows = cold_rows(findings.report)
    names = short_names(row.model for row in rows)
    events: list[Mapping[str, Any]] = []
    for pid, row in enumerate(rows):
        title = {"name": f"{names[row.model]} on {row.provider}, batch {row.batch}"}
        events.append({"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": title})
        events += [{**event, "pid": pid} for event in row.cold.trace]
    write_text(path, json.dumps(events) + "\n")


def write_csv(path: Path, findings: Findings) -> None:
    """Write the CSV."""
    write_text(path, bench_csv(findings))


def write_markdown(path: Path, findings: Findings) -> None:
    """Write the Markdown."""
    write_text(path, bench_markdown(findings))
