"""What `bench --tune` tried, as a table for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.bench.candidates import Objective
from edgekit.bench.tune import Trial, TuneReport

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_UNITS = {
    Objective.LATENCY: "one run, ms",
    Objective.THROUGHPUT: "time for each run of all streams, ms",
    Objective.SESSION_MS: "creation of a session, ms",
}


def tuning_table(report: TuneReport) -> Group:
    """Every trial, and what came of it in one sentence."""
    from rich.console import Group
    from rich.text import Text

    return Group(_table(report), *(Text(line) for line in [_outcome(report), *(f"note: {n}" for n in report.notes)]))


def _table(report: TuneReport) -> Table:
    from rich.table import Table

    where = f"{Path(report.model).name} on {report.provider}, batch {report.batch}"
    table = Table(title=f"{where}: {_UNITS[report.objective]}", title_justify="left")
    for column in ("tried", "before", "with it", "speed-up [95 %]", "verdict", "kept"):
        table.add_column(column, justify="left" if column in ("tried", "verdict", "kept") else "right", overflow="fold")
    for trial in [*report.trials, *([report.proof] if report.proof else [])]:
        medians = (f"{trial.before_ms:.3f}", f"{trial.after_ms:.3f}")
        table.add_row(trial.title, *medians, _gain(trial), str(trial.verdict), "yes" if trial.kept else "")
    return table


def _gain(trial: Trial) -> str:
    interval = trial.speedup.ci95
    return f"{trial.speedup.ratio:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "n/a"


def _outcome(report: TuneReport) -> str:
    if report.gained and report.proof is not None:
        return f"best: {report.options}, {_gain(report.proof)} times as fast as the defaults"
    if not report.complete:
        return f"best until then, not proven: {report.options}"
    return "nothing that was tried is faster than the defaults"
