"""Markdown tables of what was measured, with what a figure needs to be believed: machine, versions, date, command."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from baselines import FP32
from tasks import TASKS, Task

Row = dict[str, Any]
_FACTS = ("cpu", "cpu_features", "system", "python")
_NONE = "-"


def read_rows(path: Path) -> list[Row]:
    """The rows of a results file; of one candidate on one task the latest counts."""
    if not path.is_file():
        raise SystemExit(f"error: no results in {path}; `run.py run --out {path}` writes them")
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [_parsed(path, i, line) for i, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise SystemExit(f"error: {path} is empty; `run.py run --out {path}` writes results")
    return list({(row["task"], row["candidate"]): row for row in rows}.values())


def _parsed(path: Path, number: int, line: str) -> Row:
    try:
        row: Row = json.loads(line)
    except ValueError:
        raise SystemExit(f"error: {path}:{number}: not JSON, perhaps cut off by a kill; delete this line") from None
    return row


def render(rows: Sequence[Row]) -> str:
    """All tables, tasks in their usual order."""
    parts = [_header(rows)]
    for name, task in TASKS.items():
        chosen = [row for row in rows if row["task"] == name]
        if chosen:
            parts.append(_task_table(name, task, chosen))
    return "\n\n".join(parts) + "\n"


def render_brief(rows: Sequence[Row]) -> str:
    """One table for all tasks, with the conditions below: what a README has room for."""
    head = ["task", "candidate", "metric (fp32)", "times smaller", "latency / fp32", "quantise s"]
    lines = [_line(head), _line(["---"] * len(head))]
    for name, task in TASKS.items():
        chosen = [row for row in rows if row["task"] == name]
        base = next((row for row in chosen if row["candidate"] == FP32 and "score" in row), None)
        for row in chosen:
            if row["candidate"] != FP32:
                lines.append(_line(_brief_cells(name, task, row, base)))
    return "\n".join([*lines, "", *_conditions(rows)]) + "\n"


def _brief_cells(name: str, task: Task, row: Row, base: Row | None) -> list[str]:
    found, latency = row.get("score"), row.get("latency", {})
    fp32 = f" ({base['score']['metric']:.4f})" if base else ""
    timed = [which for which, _ in task.timed if which in latency]
    ratios = [f"{latency[which]['ratio']:.2f}" + (f" for {which}" if len(timed) > 1 else "") for which in timed]
    return [
        f"{name} {task.title.split(',')[0]}",
        f"**{row['candidate']}**" if row["candidate"].startswith("edgekit") else row["candidate"],
        f"{task.metric} {found['metric']:.4f}{fp32}" if found else row.get("failed", _NONE)[:80],
        f"{row['fp32_bytes'] / row['size_bytes']:.2f}" if found else _NONE,
        ", ".join(ratios) or _NONE,
        f"{row['quantize']['seconds']:.0f}" if "quantize" in row else _NONE,
    ]


def _header(rows: Sequence[Row]) -> str:
    commands = "\n".join(_distinct(row["command"] for row in rows))
    lines = [f"    {command}" for command in commands.splitlines()]
    return "\n".join([*lines, "", *_conditions(rows)])


def _conditions(rows: Sequence[Row]) -> list[str]:
    dates = sorted(row["date"] for row in rows)
    loads = [row["load_average"] for row in rows]
    return [
        f"- date: {dates[0]}" + (f" to {dates[-1]}" if dates[-1] != dates[0] else ""),
        *(f"- machine: {text}" for text in _distinct(_machine(row) for row in rows)),
        *_distinct(_versions(row) for row in rows if row["versions"]),
        f"- one thread on one core; load average {min(loads):.1f} to {max(loads):.1f} while it ran",
        "- latency: candidate / fp32, measured in turns, lower is better, with its 95 % interval",
    ]


def _versions(row: Row) -> str:
    found = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
    return f"- environment {row['environment']}: {found}"


def _machine(row: Row) -> str:
    facts = row["machine"]
    words = [", ".join(facts[key]) if isinstance(facts[key], list) else str(facts[key]) for key in _FACTS]
    return f"{words[0]} ({words[1]}), {facts['cores']} cores, {words[2]}, Python {words[3]}"


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _task_table(name: str, task: Task, rows: list[Row]) -> str:
    base = next((row for row in rows if row["candidate"] == FP32 and "score" in row), None)
    rows = sorted(rows, key=lambda row: ("score" not in row, -task.sign * row.get("score", {}).get("metric", 0)))
    timed = [which for which, _ in task.timed]
    latencies = [f"latency {'' if len(timed) == 1 else which}".strip() for which in timed]
    head = [
        "candidate",
        task.metric,
        "change",
        "agrees with fp32",
        "times smaller",
        *latencies,
        "quantise s",
        "peak MB",
        "note",
    ]
    lines = [_line(head), _line(["---"] * len(head))]
    lines += [_line(_cells(row, base, timed)) for row in rows if row["candidate"] != FP32]
    return "\n".join([_title(name, task, base), "", *lines])


def _title(name: str, task: Task, base: Row | None) -> str:
    title = f"### {name}: {task.title}"
    if base is None:
        return f"{title}\n\nfp32 was not measured."
    ms = ", ".join(f"{found['fp32_ms']:.2f} ms for {which}" for which, found in base.get("latency", {}).items())
    found = base["score"]
    size = f"{base['size_bytes'] / 1e6:.2f} MB"
    return f"{title}\n\nfp32: {task.metric} {found['metric']:.4f}, {size}, {ms or 'not timed'}, n={found['n']}"


def _cells(row: Row, base: Row | None, timed: Sequence[str]) -> list[str]:
    found, step, latency = row.get("score"), row.get("quantize", {}), row.get("latency", {})
    change = f"{found['metric'] - base['score']['metric']:+.4f}" if found and base else _NONE
    return [
        row["candidate"],
        f"{found['metric']:.4f}" if found else _NONE,
        change,
        f"{found['agree']:.4f}" if found else _NONE,
        f"{row['fp32_bytes'] / row['size_bytes']:.2f}" if found else _NONE,
        *(_ratio(latency.get(which)) for which in timed),
        f"{step['seconds']:.1f}" if step else _NONE,
        f"{step['peak_rss_bytes'] / 1e6:.0f}" if step else _NONE,
        _note(row),
    ]


def _ratio(found: Row | None) -> str:
    return f"{found['ratio']:.2f} [{found['ci95'][0]:.2f}, {found['ci95'][1]:.2f}]" if found else _NONE


def _note(row: Row) -> str:
    said = [row.get("failed", ""), row.get("method", "")]
    said.append("rewrote its input file" if row.get("rewrote_input") else "")
    return "; ".join(text.replace("|", "/")[:160] for text in said if text)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
