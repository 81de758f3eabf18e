"""What `edgekit bench` compares with, where it writes what it found, and how it ends."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.command import emit, refuse

if TYPE_CHECKING:
    from edgekit.bench import Verdict
    from edgekit.report.benchmark import Findings

_COMPARING, _FILES = "Comparison", "Output"
_TOP_OF_A_PROFILE = 5


class Requirement(StrEnum):
    """What a comparison must show, else the exit code is 3."""

    FASTER = "faster"
    NOT_SLOWER = "not-slower"


@dataclass(frozen=True)
class Comparing:
    """The flags of what the models are compared with."""

    compare: Annotated[
        bool,
        typer.Option("--compare", help="Say how much faster each model is than the first.", rich_help_panel=_COMPARING),
    ] = False
    require: Annotated[
        Requirement | None,
        typer.Option(help="Compare, and exit 3 unless every comparison says so.", rich_help_panel=_COMPARING),
    ] = None
    against: Annotated[
        Path | None,
        typer.Option(
            help="An older report of --samples or --json; exit 3 if a row is slower.", rich_help_panel=_COMPARING
        ),
    ] = None
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0, help="With --against: share that is no change yet; 0.05 by default.", rich_help_panel=_COMPARING
        ),
    ] = None

    @property
    def wanted(self) -> bool:
        """Whether the models are compared with each other."""
        return self.compare or self.require is not None


@dataclass(frozen=True)
class OutputFiles:
    """The flags of files, None for those that were not asked for, and of what is told."""

    csv: Annotated[Path | None, typer.Option(help="Write the rows as CSV.", rich_help_panel=_FILES)] = None
    markdown: Annotated[Path | None, typer.Option(help="Write the tables as Markdown.", rich_help_panel=_FILES)] = None
    html: Annotated[Path | None, typer.Option(help="Write tables and plots as one page.", rich_help_panel=_FILES)] = (
        None
    )
    samples: Annotated[
        Path | None, typer.Option("--samples", help="Keep every run, in a .json or an .npz.", rich_help_panel=_FILES)
    ] = None
    with_samples: Annotated[
        bool, typer.Option("--with-samples", help="Every run in --json too.", rich_help_panel=_FILES)
    ] = False
    profile: Annotated[
        Path | None,
        typer.Option(help="Write ONNX Runtime's trace of some runs, for chrome://tracing.", rich_help_panel=_FILES),
    ] = None
    top: Annotated[
        int | None,
        typer.Option(min=0, help="Show so many of each model's slowest operators.", rich_help_panel=_FILES),
    ] = None

    @property
    def operators(self) -> int:
        """How many operators the table shows: some where a profile was asked for, none else."""
        return self.top if self.top is not None else _TOP_OF_A_PROFILE if self.profile else 0

    def check(self, inputs: Sequence[Path]) -> None:
        """Refuse, before anything is measured, what could not be written after it.

        Raises:
            OutputError: for an input, a directory, one file named twice, or samples in a format that is not known.
        """
        from edgekit.errors import OutputError
        from edgekit.files import check_output

        files = (self.csv, self.markdown, self.html, self.samples, self.profile)
        named = [path for path in files if path is not None]
        for number, path in enumerate(named):
            check_output(path, *inputs)
            if path.resolve() in [other.resolve() for other in named[:number]]:
                raise OutputError(f"{path} is named for two outputs; name another file for one of them")
        if self.samples is not None and self.samples.suffix not in (".json", ".npz"):
            raise OutputError(f"cannot write samples to {self.samples}: the name must end in .json or .npz")

    def write(self, findings: Findings) -> None:
        """Write each file, whole or not at all."""
        from edgekit.progress import note
        from edgekit.report import bench_files, bench_html

        for path, writer in (
            (self.csv, bench_files.write_csv),
            (self.markdown, bench_files.write_markdown),
            (self.html, bench_html.write_html),
            (self.samples, bench_files.write_samples),
            (self.profile, bench_files.write_trace),
        ):
            if path is not None:
                writer(path, findings)
                note(f"wrote {path}")


def typed_command() -> str:
    """The command as it was typed, ready to be pasted into a shell."""
    return shlex.join(["edgekit", *sys.argv[1:]])


def answer(findings: Findings, files: OutputFiles, require: Requirement | None) -> None:
    """Write the files, tell the rows, and end as they ask for.

    Raises:
        KeyboardInterrupt: if the measurement was stopped before its end; what was measured has been told.
    """
    from edgekit.report.benchmark import bench_tables

    if findings.report.rows:
        files.write(findings)
        emit(findings.as_dict(samples=files.with_samples), lambda: bench_tables(findings))
    if not findings.report.complete:
        measured = findings.report.rows
        told = "the rows above are what was measured until then" if measured else "nothing had been measured yet"
        raise KeyboardInterrupt(told)
    _conclude(findings, require)


def _conclude(findings: Findings, require: Requirement | None) -> None:
    """End with exit code 3 where a comparison misses what is required of it, or a row has become slower."""
    from edgekit.bench import Verdict

    reasons = []
    if require is not None:
        allowed = {Verdict.FASTER} if require is Requirement.FASTER else {Verdict.FASTER, Verdict.NO_DIFFERENCE}
        reasons += _missed(findings, require, allowed)
    if findings.changes is not None and (slower := findings.changes.regressions):
        worst = min(slower, key=lambda row: row.speedup.ratio)
        reasons.append(
            f"{len(slower)} of {len(findings.changes.rows)} rows are slower than in {findings.changes.path}: "
            f"{worst.model} on {worst.setting} took {worst.before_ms:.4g} ms and takes {worst.after_ms:.4g} ms"
        )
    if reasons:
        refuse("; ".join(reasons))


def _missed(findings: Findings, require: Requirement, allowed: set[Verdict]) -> list[str]:
    from edgekit.bench import Verdict

    failed = [c for c in findings.comparisons if c.verdict not in allowed]
    if not failed:
        return []
    worst = min(failed, key=lambda c: c.speedup.ratio)
    noisy = all(c.verdict is Verdict.TOO_NOISY for c in failed)
    return [
        f"--require {require} is not met by {len(failed)} of {len(findings.comparisons)} comparisons: {worst.model} "
        f"against {worst.baseline} on {worst.setting} is {worst.verdict} ({worst.speedup.ratio:.3f}x)"
        + ("; measure longer (--min-seconds) on a quiet machine" if noisy else "")
    ]
