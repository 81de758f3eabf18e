"""A benchmark's rows as tables for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.bench import BenchReport
from edgekit.report.comparison import human_bytes

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table


def bench_tables(report: BenchReport) -> Group:
    """Two narrow tables rather than one that no terminal is wide enough for."""
    from rich.console import Group

    return Group(_latency_table(report), _cold_table(report), *(f"note: {n}" for n in report.notes))


def _latency_table(report: BenchReport) -> Table:
    from rich.table import Table

    title = f"steady latency on {report.machine['cpu']}, {report.rows[0].threads} threads"
    table = Table(title=title, title_justify="left")
    streams = ["streams"] if any(row.streams > 1 for row in report.rows) else []
    for column in ("model", "on", "batch", *streams, "p50 ms [95 %]", "p90 ms", "p95 ms", "p99 ms", "per s", "n"):
        table.add_column(column, justify="left" if column in ("model", "on") else "right", overflow="fold")
    for row in report.rows:
        latency, interval = row.latency_ms, row.latency_ms.ci95_p50
        sure = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else " [n/a]"
        tail = (_or_na(latency.p90), _or_na(latency.p95), _or_na(latency.p99))
        cells = (f"{latency.p50:.3f}{sure}", *tail, f"{row.throughput_per_s:.0f}", str(row.samples.n))
        setting = (str(row.batch), *(str(row.streams) for _ in streams))
        table.add_row(Path(row.model).name, row.provider, *setting, *cells)
    return table


def _cold_table(report: BenchReport) -> Table:
    from rich.table import Table

    from edgekit.ort import PROVIDERS

    table = Table(title="cold start, in a process of its own", title_justify="left")
    for column in ("model", "ran on", "batch", "session ms", "first run ms", "peak memory", "size"):
        table.add_column(column, justify="left" if column in ("model", "ran on") else "right", overflow="fold")
    short = {p.ort_name: p.name for p in PROVIDERS.values()}
    for row in {id(r.cold): r for r in report.rows}.values():
        parts = row.cold.placement.items()
        where = ", ".join(f"{short.get(name, name)} {100 * p.time_share:.0f} %" for name, p in parts)
        times = (f"{row.cold.session_ms:.1f}", f"{row.cold.first_run_ms:.2f}", human_bytes(row.cold.peak_rss_bytes))
        table.add_row(Path(row.model).name, where, str(row.batch), *times, human_bytes(row.size_bytes))
    return table


def _or_na(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
