"""What a benchmark found, as sheets: the same cells for the terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgekit.bench import BenchReport, BenchRow, Changes, RowComparison, Verdict
from edgekit.report.figures import figure, human_bytes, ratio, short_names, with_interval
from edgekit.report.sheets import FittedTable, Line, Mark, Sheet

if TYPE_CHECKING:
    from rich.console import Group

MARKS: dict[Verdict, Mark] = {
    Verdict.FASTER: "good",
    Verdict.SLOWER: "bad",
    Verdict.TOO_NOISY: "doubtful",
    Verdict.NO_DIFFERENCE: "",
}
_LATENCY_CAPTION = "brackets: 95 % interval of the median; n/a: too few runs to tell with 99 % confidence"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """A report and what was concluded from it.

    Attributes:
        comparisons: Each model against the first; empty where that was not asked for.
        changes: Each row against an older report; None where there is none.
        command: What the user typed, for whoever reads the file later.
        top: How many operators to show of each model.
    """

    report: BenchReport = field(kw_only=False)
    comparisons: tuple[RowComparison, ...] = ()
    changes: Changes | None = None
    command: str = ""
    top: int = 0

    def as_dict(self, *, samples: bool = False) -> dict[str, Any]:
        """What JSON holds."""
        document = self.report.as_dict(samples=samples)
        if self.command:
            document["command"] = self.command
        if self.comparisons:
            document["comparisons"] = [c.as_dict() for c in self.comparisons]
        if self.changes is not None:
            document["against"] = self.changes.as_dict()
        return document


@dataclass(frozen=True)
class Column:
    """One column over the rows of a benchmark.

    Attributes:
        cell: The text of a row.
        when: Whether it says anything about these rows; a column that does not is left out.
    """

    title: str
    cell: Callable[[BenchRow], str]
    when: Callable[[Sequence[BenchRow]], bool] = lambda rows: True


LATENCY_COLUMNS: tuple[Column, ...] = (
    Column("on", lambda row: _asked(row)),
    Column("batch", lambda row: str(row.batch)),
    Column("streams", lambda row: str(row.streams), when=lambda rows: any(row.streams > 1 for row in rows)),
    Column("p50 ms [95 %]", lambda row: with_interval(row.latency_ms.p50, row.latency_ms.ci95_p50)),
    Column("p90 ms", lambda row: figure(row.latency_ms.p90, 3)),
    Column("p95 ms", lambda row: figure(row.latency_ms.p95, 3)),
    Column("p99 ms", lambda row: figure(row.latency_ms.p99, 3)),
    Column("per s", lambda row: figure(row.throughput_per_s)),
    Column("mJ a run", lambda row: figure(_millijoules(row)), when=lambda rows: any(map(_millijoules, rows))),
    Column("runs", lambda row: str(row.samples.n)),
)
COLD_COLUMNS: tuple[Column, ...] = (
    Column("ran on", lambda row: _where(row)),
    Column("batch", lambda row: str(row.batch)),
    Column("session ms", lambda row: figure(row.cold.session_ms)),
    Column("first run ms", lambda row: figure(row.cold.first_run_ms)),
    Column("memory loaded", lambda row: human_bytes(row.cold.load_rss_bytes)),
    Column("peak memory", lambda row: human_bytes(row.cold.peak_rss_bytes)),
    Column("on the GPU", lambda row: _device_memory(row), when=lambda rows: any(map(_has_device, rows))),
    Column("engine", lambda row: _engine(row), when=lambda rows: any(row.cold.engine for row in rows)),
    Column("size", lambda row: human_bytes(row.size_bytes)),
)


def sheets(findings: Findings) -> list[Sheet]:
    """Every sheet that has something to say, what matters most first."""
    report = findings.report
    if not report.rows:
        return []
    found = [_latency_sheet(report)]
    if findings.comparisons:
        found.append(_comparison_sheet(findings.comparisons))
    if findings.changes is not None and findings.changes.rows:
        found.append(_change_sheet(findings.changes))
    cold = cold_rows(report)
    found.append(_sheet("cold start, in a process of its own", COLD_COLUMNS, cold))
    if findings.top:
        found.append(_operator_sheet(cold, findings.top))
    return found


def cold_rows(report: BenchReport) -> list[BenchRow]:
    """One row a cold start: rows that differ in streams alone share it."""
    return list({id(row.cold): row for row in reversed(report.rows)}.values())[::-1]


def bench_tables(findings: Findings) -> Group:
    """Narrow tables below each other rather than one that no terminal is wide enough for."""
    from rich.console import Group
    from rich.text import Text

    tables = [part for sheet in sheets(findings) for part in (FittedTable(sheet), Text())]
    return Group(*tables, *(Text(f"note: {n}", "yellow") for n in every_note(findings)))


def every_note(findings: Findings) -> list[str]:
    """What disturbed the measurement, the notes of single rows included."""
    rows = findings.report.rows
    names = short_names(row.model for row in rows)
    of_rows = [f"{names[row.model]} on {row.setting}: {n}" for row in rows for n in row.notes]
    return [*findings.report.notes, *of_rows, *_notes_of_changes(findings.changes)]


def _notes_of_changes(changes: Changes | None) -> list[str]:
    if changes is None:
        return []
    other = "; ".join(changes.differences)
    return [
        *([f"{changes.path} was measured elsewhere or otherwise: {other}"] if other else []),
        *([f"only in {changes.path}: {'; '.join(changes.missing)}"] if changes.missing else []),
        *([f"not in {changes.path}: {'; '.join(changes.new)}"] if changes.new else []),
    ]


def _latency_sheet(report: BenchReport) -> Sheet:
    title = f"steady latency on {report.machine['cpu']}, {_threads(report.rows)}"
    lacking = [] if any(map(_millijoules, report.rows)) else [f"energy: {report.rows[0].energy.source}"]
    return _sheet(title, LATENCY_COLUMNS, report.rows, caption="; ".join((_LATENCY_CAPTION, *lacking)))


def _millijoules(row: BenchRow) -> float | None:
    joules = row.energy.joules_per_run
    return None if joules is None else 1000 * joules


def _threads(rows: Sequence[BenchRow]) -> str:
    counts = sorted({row.threads for row in rows})
    return "1 thread" if counts == [1] else f"{', '.join(map(str, counts))} threads"


def _sheet(title: str, columns: Sequence[Column], rows: Sequence[BenchRow], caption: str = "") -> Sheet:
    names = short_names(row.model for row in rows)
    shown = [column for column in columns if column.when(rows)]
    lines = tuple(Line((names[row.model], *(c.cell(row) for c in shown)), _mark(row)) for row in rows)
    titles = ("model", *(c.title for c in shown))
    return Sheet(title, titles, lines, key=_key(titles), caption=caption)


def _key(columns: Sequence[str]) -> int:
    """How many columns say which row it is."""
    return 1 + max(columns.index(name) for name in ("batch", "streams") if name in columns)


def _comparison_sheet(found: Sequence[RowComparison]) -> Sheet:
    names = short_names([c.baseline for c in found] + [c.model for c in found])
    streams = ["streams"] if any(c.setting.streams > 1 for c in found) else []
    baselines = ", ".join(dict.fromkeys(names[c.baseline] for c in found))
    lines = tuple(
        Line(
            (
                names[c.model],
                c.setting.provider,
                str(c.setting.batch),
                *(str(c.setting.streams) for _ in streams),
                ratio(c.speedup.ratio, c.speedup.ci95),
                str(c.verdict),
                str(c.speedup.rounds),
            ),
            MARKS[c.verdict],
        )
        for c in found
    )
    columns = ("model", "on", "batch", *streams, "speed-up [95 %]", "verdict", "rounds")
    caption = "above 1x is faster; paired over rounds in turns"
    return Sheet(f"against {baselines}", columns, lines, key=_key(columns), caption=caption)


def _change_sheet(changes: Changes) -> Sheet:
    names = short_names(row.model for row in changes.rows)
    streams = ["streams"] if any(row.setting.streams > 1 for row in changes.rows) else []
    lines = tuple(
        Line(
            (
                names[row.model],
                row.setting.provider,
                str(row.setting.batch),
                *(str(row.setting.streams) for _ in streams),
                figure(row.before_ms),
                figure(row.after_ms),
                ratio(row.speedup.ratio, row.speedup.ci95),
                str(row.verdict),
            ),
            MARKS[row.verdict],
        )
        for row in changes.rows
    )
    columns = ("model", "on", "batch", *streams, "then ms", "now ms", "speed-up [95 %]", "verdict")
    caption = "below 1x is slower now; the two were not measured in turns"
    return Sheet(f"since {changes.path.name}", columns, lines, key=_key(columns), caption=caption)


def _operator_sheet(rows: Sequence[BenchRow], top: int) -> Sheet:
    names = short_names(row.model for row in rows)
    lines = tuple(
        Line(
            (names[row.model], o.op_type, short_provider(o.provider), str(row.batch), str(o.nodes), share(o.time_share))
        )
        for row in rows
        for o in row.cold.operators[:top]
    )
    columns = ("model", "operator", "on", "batch", "nodes", "of the time")
    return Sheet("slowest operators", columns, lines, left=3, key=4)


def share(part: float) -> str:
    """A share for people.

    >>> share(0.1234)
    '12.3 %'
    """
    return f"{100 * part:.1f} %"


def short_provider(ort_name: str) -> str:
    """A provider's short name from ONNX Runtime's."""
    from edgekit.ort import PROVIDERS

    return next((p.name for p in PROVIDERS.values() if p.ort_name == ort_name), ort_name)


def _mark(row: BenchRow) -> Mark:
    return "bad" if row.cold.fallback else ""


def _asked(row: BenchRow) -> str:
    """The provider that was asked for; where it ran nothing, those that did in its place."""
    ran = ", ".join(map(short_provider, row.cold.placement))
    return f"{row.provider}, ran on {ran}" if row.cold.fallback else row.provider


def _has_device(row: BenchRow) -> bool:
    return row.cold.device_memory.peak_bytes is not None


def _device_memory(row: BenchRow) -> str:
    peak = row.cold.device_memory.peak_bytes
    return "n/a" if peak is None else human_bytes(peak)


def _engine(row: BenchRow) -> str:
    engine = row.cold.engine
    if engine is None:
        return ""
    return f"{'kept, ' if engine.cached else ''}built in {engine.build_ms / 1000:.1f} s"


def _where(row: BenchRow) -> str:
    parts = [f"{short_provider(name)} {100 * p.time_share:.0f} %" for name, p in row.cold.placement.items()]
    copies = row.cold.memcpy_nodes
    return ", ".join(parts) + (f", {copies} copies" if copies else "")
