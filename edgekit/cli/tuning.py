"""edgekit bench --tune, and the file that it writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.command import emit

if TYPE_CHECKING:
    from edgekit.bench import BenchRequest
    from edgekit.ort import SessionOptions

_PANEL = "Session options"
_NOTHING = "nothing was tried until then"
_INPUTS = ("models", "provider", "batch", "shape", "data", "threads", "streams", "timeout")
UNDERSTOOD = frozenset((*_INPUTS, "device", "strict_placement", "tune", "objective", "tune_seconds", "out"))


@dataclass(frozen=True)
class Tuning:
    """The flags."""

    tune: Annotated[
        bool, typer.Option("--tune", help="Search the session options that suit the model.", rich_help_panel=_PANEL)
    ] = False
    objective: Annotated[
        str | None,
        typer.Option(
            "--objective", help="--tune for latency (default), throughput or session_ms.", rich_help_panel=_PANEL
        ),
    ] = None
    tune_seconds: Annotated[
        float | None,
        typer.Option("--tune-seconds", help="About how long --tune may take, 45 by default.", rich_help_panel=_PANEL),
    ] = None
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where --tune writes what it found, as JSON.", rich_help_panel=_PANEL),
    ] = None
    session_options: Annotated[
        Path | None,
        typer.Option("--session-options", help="Measure with the options of such a file.", rich_help_panel=_PANEL),
    ] = None

    def check(self) -> None:
        """Refuse what belongs to --tune without it.

        Raises:
            BadParameter: for the first such flag.
        """
        for name in ("objective", "tune_seconds", "out"):
            if getattr(self, name) is not None and not self.tune:
                raise typer.BadParameter(f"--{name.replace('_', '-')} belongs to --tune")


def read_options(path: Path | None, models: list[Path], providers: list[str]) -> SessionOptions | None:
    """The options of a file, if one was named.

    Raises:
        ModelError: if it is not there, holds what is unknown, or an optimised file that is not for these models here.
    """
    if path is None:
        return None
    from edgekit.bench import tuned

    return tuned.read_options(path, models, providers)


def bench_tune(models: list[Path], request: BenchRequest, flags: Tuning) -> None:
    """Search, tell, and write the file; Ctrl-C gives the best until then."""
    from edgekit.bench.candidates import Objective
    from edgekit.bench.tune import TuneInterrupted, tune
    from edgekit.errors import ModelError, unknown
    from edgekit.files import check_output, write_json
    from edgekit.graph.read import data_files
    from edgekit.progress import note
    from edgekit.report.tuning import tuning_table

    if len(models) != 1:
        raise typer.BadParameter(f"--tune takes one model, got {len(models)}; run it once for each")
    objective, out = flags.objective, flags.out
    objectives = [o.value for o in Objective]
    if objective is not None and objective not in objectives:
        raise ModelError(unknown("objective", objective, objectives))
    given: dict[str, Any] = {} if flags.tune_seconds is None else {"seconds": flags.tune_seconds}
    if out is not None:
        given["optimized"] = out.with_name(f"{out.stem}.optimized.onnx")
        for file in (out, given["optimized"]):
            check_output(file, models[0], *(data_files(models[0]) if models[0].is_file() else ()))
    try:
        report = tune(models[0], request, objective=Objective(objective or Objective.LATENCY), **given)
    except TuneInterrupted as stop:
        report = stop.report
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_NOTHING) from None
    if report.optimized is not None:
        note(f"wrote {given['optimized']}, for this CPU and this version of ONNX Runtime alone")
    if out is not None and (report.complete or report.trials):
        write_json(out, report.as_dict())
        note(f"wrote {out}")
    if report.complete or report.trials:
        emit(report.as_dict(), lambda: tuning_table(report))
    if not report.complete:
        raise KeyboardInterrupt("the best until then stands above" if report.trials else _NOTHING)
