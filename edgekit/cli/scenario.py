"""edgekit bench --scenario: MLPerf's LoadGen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.command import emit, refuse

if TYPE_CHECKING:
    from edgekit.bench import BenchRequest
    from edgekit.bench.scenarios import LoadPlan

_PANEL = "MLPerf scenarios, judged by LoadGen"
_BELONGS = {"target_qps": "server", "latency_bound_ms": "server", "samples_per_query": "multi-stream"}


@dataclass(frozen=True)
class Scenarios:
    """The flags."""

    scenario: Annotated[
        str | None, typer.Option(help="single-stream, multi-stream, server or offline.", rich_help_panel=_PANEL)
    ] = None
    min_queries: Annotated[
        int | None,
        typer.Option(min=1, help="Least queries; by default the fewest that LoadGen accepts.", rich_help_panel=_PANEL),
    ] = None
    target_qps: Annotated[
        float | None,
        typer.Option(help="server: queries a second; by default half of what it can do.", rich_help_panel=_PANEL),
    ] = None
    latency_bound_ms: Annotated[
        float | None,
        typer.Option("--latency-bound-ms", help="server: what 99 % must keep, 100 by default.", rich_help_panel=_PANEL),
    ] = None
    samples_per_query: Annotated[
        int | None, typer.Option(min=1, help="multi-stream: samples of a query, 8 by default.", rich_help_panel=_PANEL)
    ] = None
    mlperf: Annotated[
        bool, typer.Option("--mlperf", help="The official ten minutes and sample counts.", rich_help_panel=_PANEL)
    ] = False
    logs: Annotated[Path | None, typer.Option(help="Directory for LoadGen's own logs.", rich_help_panel=_PANEL)] = None

    def plan(self, min_seconds: float | None, streams: Sequence[int]) -> LoadPlan | None:
        """The plan that the flags describe; None without --scenario.

        Raises:
            BadParameter: for flags that do not go together.
            ModelError: for a scenario that is unknown.
        """
        if self.scenario is None:
            self._refuse_strays()
            return None
        from edgekit.bench.scenarios import LoadPlan, Scenario, official
        from edgekit.errors import ModelError, unknown

        names = [s.value for s in Scenario]
        if self.scenario not in names:
            raise ModelError(unknown("scenario", self.scenario, names))
        for key in self._own():
            if _BELONGS[key] != self.scenario:
                raise typer.BadParameter(f"{_flag(key)} belongs to --scenario {_BELONGS[key]}, not to {self.scenario}")
        if self.mlperf and (min_seconds is not None or self.min_queries is not None):
            raise typer.BadParameter("--mlperf sets --min-seconds and --min-queries; leave them out")
        if len(streams) > 1:
            raise typer.BadParameter("a scenario takes one --streams; run it once for each")
        changes: dict[str, Any] = {**self._own(), "streams": (*streams, 1)[0]}
        if self.mlperf:
            return official(Scenario(self.scenario), **changes)
        times = {"min_seconds": min_seconds, "min_queries": self.min_queries}
        changes |= {name: value for name, value in times.items() if value is not None}
        return LoadPlan(Scenario(self.scenario), **changes)

    def _own(self) -> dict[str, float]:
        """What only one scenario understands, where it is given."""
        return {key: getattr(self, key) for key in _BELONGS if getattr(self, key) is not None}

    def _refuse_strays(self) -> None:
        """Refuse what belongs to --scenario without it."""
        given = [*self._own(), *(name for name in ("min_queries", "mlperf", "logs") if getattr(self, name))]
        if given:
            raise typer.BadParameter(f"{_flag(given[0])} belongs to --scenario")


UNDERSTOOD = frozenset(
    (
        *("models", "provider", "batch", "shape", "data", "threads", "session_options", "streams", "timeout"),
        *("device", "strict_placement", "min_seconds", *Scenarios.__dataclass_fields__),
    )
)


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
