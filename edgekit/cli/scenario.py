"""edgekit bench --scenario: MLPerf's LoadGen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.command import emit, refuse

if TYPE_CHECKING:
    from edgekit.bench import BenchRequest
    from edgekit.bench.scenarios import LoadPlan

_PANEL = "MLPerf scenarios, judged by LoadGen"
Name = Annotated[
    str | None, typer.Option(help="single-stream, multi-stream, server or offline.", rich_help_panel=_PANEL)
]
MinQueries = Annotated[
    int | None,
    typer.Option(min=1, help="Least queries; by default the fewest that LoadGen accepts.", rich_help_panel=_PANEL),
]
TargetQps = Annotated[
    float | None,
    typer.Option(help="server: queries a second; by default half of what it can do.", rich_help_panel=_PANEL),
]
LatencyBound = Annotated[
    float | None,
    typer.Option("--latency-bound-ms", help="server: what 99 % must keep, 100 by default.", rich_help_panel=_PANEL),
]
SamplesPerQuery = Annotated[
    int | None, typer.Option(min=1, help="multi-stream: samples of a query, 8 by default.", rich_help_panel=_PANEL)
]
Mlperf = Annotated[
    bool, typer.Option("--mlperf", help="The official ten minutes and sample counts.", rich_help_panel=_PANEL)
]
Logs = Annotated[Path | None, typer.Option(help="Directory for LoadGen's own logs.", rich_help_panel=_PANEL)]
_INPUTS = ("models", "provider", "batch", "shape", "data", "threads", "session_options", "streams", "timeout")
_OWN = (
    "scenario",
    "min_seconds",
    "min_queries",
    "target_qps",
    "latency_bound_ms",
    "samples_per_query",
    "mlperf",
    "logs",
)
UNDERSTOOD = frozenset((*_INPUTS, "device", "strict_placement", *_OWN))
_BELONGS = {"target_qps": "server", "latency_bound_ms": "server", "samples_per_query": "multi-stream"}


def plan_of(
    name: str | None,
    *,
    mlperf: bool,
    min_seconds: float | None,
    min_queries: int | None,
    streams: list[int] | None,
    logs: Path | None,
    **own: float | None,
) -> LoadPlan | None:
    """The plan that the flags describe; None without --scenario.

    Raises:
        BadParameter: for flags that do not go together.
        ModelError: for a scenario that is unknown.
    """
    given = {key: value for key, value in own.items() if value is not None}
    if name is None:
        extra = [*given, *(["min_queries"] if min_queries else []), *(["mlperf"] if mlperf else [])]
        if extra or logs:
            raise typer.BadParameter(f"{_flag((extra or ['logs'])[0])} belongs to --scenario")
        return None
    from edgekit.bench.scenarios import LoadPlan, Scenario, official
    from edgekit.errors import ModelError, unknown

    names = [s.value for s in Scenario]
    if name not in names:
        raise ModelError(unknown("scenario", name, names))
    for key in given:
        if _BELONGS[key] != name:
            raise typer.BadParameter(f"{_flag(key)} belongs to --scenario {_BELONGS[key]}, not to {name}")
    if mlperf and (min_seconds is not None or min_queries is not None):
        raise typer.BadParameter("--mlperf sets --min-seconds and --min-queries; leave them out")
    if len(streams or ()) > 1:
        raise typer.BadParameter("a scenario takes one --streams; run it once for each")
    changes = {**given, "streams": (streams or [1])[0]}
    if mlperf:
        return official(Scenario(name), **changes)
    times = {"min_seconds": min_seconds, "min_queries": min_queries}
    return LoadPlan(Scenario(name), **{k: v for k, v in {**changes, **times}.items() if v is not None})  # type: ignore[arg-type]


def bench_scenario(models: list[Path], request: BenchRequest, plan: LoadPlan, logs: Path | None) -> None:
    """Run it, tell it, and end with 3 where LoadGen says INVALID."""
    from edgekit.bench.scenarios import ScenariosInterrupted, run_scenarios
    from edgekit.report.scenarios import scenario_tables

    try:
        report = run_scenarios(models, request, plan, logs=logs)
    except ScenariosInterrupted as stop:
        report = stop.report
    if report.results:
        emit(report.as_dict(), lambda: scenario_tables(report))
    if not report.complete:
        raise KeyboardInterrupt(
            "the rows above are what was finished until then" if report.results else "no scenario was finished"
        )
    invalid = [r for r in report.results if not r.valid]
    if invalid:
        refuse("; ".join(f"LoadGen says INVALID of {r.model}: {'; '.join(r.reasons[:2])}" for r in invalid))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
