"""What LoadGen said, as a table for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.bench.scenarios import Scenario, ScenarioReport, ScenarioResult

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table


def scenario_tables(report: ScenarioReport) -> Group:
    """The table, what was asked for, and why what is INVALID is."""
    from rich.console import Group
    from rich.text import Text

    lines = [f"asked for: {_asked(report.results[0])}"]
    for r in report.results:
        lines += [f"{Path(r.model).name} is INVALID: {reason}" for reason in r.reasons]
        lines += [f"note: {Path(r.model).name}: {note}" for note in r.notes]
        lines.append(f"{Path(r.model).name} alone: {_short(r.run_ms)} ms for a run of {r.batch}")
        lines += [f"logs of {Path(r.model).name}: {r.logs}"] if r.logs else []
    return Group(_table(report), *(Text(line) for line in [*lines, *(f"note: {n}" for n in report.notes)]))


def _table(report: ScenarioReport) -> Table:
    from rich.table import Table
    from rich.text import Text

    first = report.results[0]
    title = f"{first.scenario} by MLPerf LoadGen {first.loadgen} on {report.machine['cpu']}, {first.threads} threads"
    table = Table(title=title, title_justify="left")
    tail = [p for p in ("p50", "p99") if first.latency_ms and not first.figure.name.endswith(p)]
    for column in ("model", "on", "verdict", _headline(first), *(f"{p} ms" for p in tail), "batch", "n"):
        table.add_column(column, justify="left" if column in ("model", "on", "verdict") else "right", overflow="fold")
    for r in report.results:
        verdict = Text(r.verdict, "green" if r.valid else "red")
        figure = _short(r.figure.value) if r.figure.unit == "ms" else f"{r.figure.value:.1f}"
        cells = (figure, *(_short(r.latency_ms[p]) for p in tail), str(r.batch), str(r.completed_samples))
        table.add_row(Path(r.model).name, r.provider, verdict, *cells)
    return table


def _short(ms: float) -> str:
    """Three digits, and no fraction from 100 on.

    >>> _short(0.01234), _short(2779.713)
    ('0.0123', '2780')
    """
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.3g}"


def _headline(result: ScenarioResult) -> str:
    return {
        Scenario.SINGLE_STREAM: "p90 ms",
        Scenario.MULTI_STREAM: "p99 of a query, ms",
        Scenario.SERVER: "samples per s",
        Scenario.OFFLINE: "samples per s",
    }[result.scenario]


def _asked(result: ScenarioResult) -> str:
    """What LoadGen was told, in words."""
    held = result.settings
    parts = [f"at least {held['min_duration_ms'] / 1000:g} s", f"at least {held['min_query_count']} queries"]
    if result.scenario is Scenario.SERVER:
        bound = held["server_target_latency_ns"] / 1e6
        parts += [f"{held['server_target_qps']:.1f} queries a second", f"99 % within {bound:g} ms"]
    if result.scenario is Scenario.MULTI_STREAM:
        parts.append(f"{held['multi_stream_samples_per_query']} samples a query")
    if result.scenario is Scenario.OFFLINE:
        parts[1] = f"at least {held['min_query_count']} samples"
    return ", ".join([*parts, f"{result.samples} {result.input_source} samples to draw from"])
